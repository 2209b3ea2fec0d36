"""``explain``: what do the blocks look at in this video, image or tracklet?"""

from __future__ import annotations

from video_snl.analysis.explain.output import output_folder, report, write_explanations
from video_snl.analysis.explain.positions import parse_at
from video_snl.analysis.model_input import analysis_input, explained
from video_snl.config.task_spec import TaskSpec
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.runs.trained import load_trained
from video_snl.tasks.operations import Operations, Reading

__all__ = ["explain"]


def explain(
    source: str,
    spec: TaskSpec,
    *,
    checkpoint: str | None,
    compare: str | None,
    output: str | None,
    at: str | None,
    reading: Reading,
    accelerator: str,
) -> int:
    """Write the folder of an explanation, and print the classes and where it is.

    Args:
        source: The video, image or tracklet.
        spec: The kind of task.
        checkpoint, compare: The network, and a second one for the same page.
        output: Folder to write to; default ``explain-NAME``.
        at: Position that the figures are about, as ``T,ROW,COL``.
        reading: How the source is read.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        UserError: Something named is not there, cannot be read or written, or no position.
    """
    operations: Operations = spec.make()
    position = None if at is None else parse_at(at)
    name, item = operations.find_input(source, reading)
    device = device_of(accelerator)
    paths = [operations.find_checkpoint(checkpoint)]
    if compare is not None:
        paths.append(operations.find_checkpoint(compare, option="--compare"))
    folder = output_folder(output, name)
    if spec.inputs == "videos":
        start_forkserver()  # loads its modules while the networks are made
    networks = [operations.reading(load_trained(path, spec), reading) for path in paths]
    found = [analysis_input(trained, name, item, device) for trained in networks]
    explanations = explained(found, position)
    page = write_explanations(folder, explanations, position)
    report(explanations, page)
    return 0
