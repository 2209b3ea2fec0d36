"""Options of commands as typed dataclasses, each option declared once. Without torch.

A command's options are a dataclass: its fields are the options, its docstring and those of its
bases explain them. What several commands have is a base of each::

    @option_group
    class Predict(Checkpoint, MaxPixels, Accelerator, Json):
        \"\"\"Options of ``predict``.

        Args:
            paths: Videos, or folders of them.
        \"\"\"

        paths: list[str] = positional("FILE|DIR", nargs="+")

    add_options(parser, Predict)
    options = options_of(Predict, parser.parse_args())
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

__all__ = [
    "Accelerator",
    "AllowCode",
    "Checkpoint",
    "ClipReading",
    "Crops",
    "Engine",
    "Json",
    "MaxPixels",
    "Model",
    "NetworkEngine",
    "Pretrained",
    "Profile",
    "Render",
    "Reports",
    "Resume",
    "Unreadable",
    "Views",
    "Workers",
    "add_options",
    "check_one_network",
    "option",
    "option_group",
    "options_of",
    "positional",
]

_Options = TypeVar("_Options")
# An entry of the section Args of a docstring. (The library that reads those of the configurations
# takes longer to load than a whole parser of options takes to build.)
_DESCRIBED = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def option(
    default: Any = None,
    *,
    short: str | None = None,
    metavar: str | None = None,
    required: bool = False,
    nargs: str | None = None,
    const: str | None = None,
    action: str | None = None,
    name: str | None = None,
) -> Any:
    """Declare an option whose field alone does not say all.

    Args:
        default: Default value; None where the command finds one.
        short: Short form, such as ``-o``.
        metavar: Placeholder of the value in the help.
        required: Refuse the command without it.
        nargs: Number of values, as in argparse.
        const: Value of the option where it stands alone, of ``nargs="?"``.
        action: Action of argparse, such as ``append``.
        name: Long form, where it is not ``--`` and the field's name.
    """
    about = {
        "short": short,
        "metavar": metavar,
        "required": required,
        "nargs": nargs,
        "const": const,
        "action": action,
        "name": name,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=about)
    return field(default=default, metadata=about)


def positional(metavar: str, *, nargs: str | None = None) -> Any:
    """Declare an argument without a name.

    Args:
        metavar: Placeholder in the help.
        nargs: Number of values, as in argparse.
    """
    return field(metadata={"positional": True, "metavar": metavar, "nargs": nargs})


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(option, positional))
def option_group(kind: type[_Options]) -> type[_Options]:
    """Make a class a dataclass of options, with no more than the parser needs.

    Every command loads all groups: what compares and prints dataclasses would cost more time than
    the parser.
    """
    return dataclass(eq=False, kw_only=True, repr=False)(kind)


def add_options(parser: ArgumentParser, kind: type) -> None:
    """Add the options that a dataclass declares to a parser."""
    hints, texts = get_type_hints(kind), dict(_descriptions(kind))
    # Arguments without a name stand at first, wherever they are declared.
    for each in sorted(fields(kind), key=lambda each: "positional" not in each.metadata):
        about = {key: value for key, value in each.metadata.items() if value}
        names = [each.name] if about.pop("positional", False) else _names(each, about)
        if hints[each.name] is bool and each.default is False:
            about["action"] = "store_true"
        else:
            about["type"] = _type_of_a_value(hints[each.name], about)
            about |= {} if "positional" in each.metadata else {"default": _default(each)}
        parser.add_argument(*names, help=texts[each.name], **about)


def options_of(kind: type[_Options], arguments: Namespace) -> _Options:
    """Build a dataclass of options from what its parser returned."""
    return kind(**{each.name: arguments[_destination(each)] for each in fields(kind)})  # type: ignore[arg-type]


def _destination(option: Field[Any]) -> str:
    """Return the name under which a parser returns an option: a section's entry keeps its dot."""
    long = option.metadata.get("name") or option.name
    return long.removeprefix("--").replace("-", "_")


def _names(option: Field[Any], about: dict[str, Any]) -> list[str]:
    long = about.pop("name", f"--{option.name}")
    return [about.pop("short"), long] if "short" in about else [long]


def _type_of_a_value(hint: Any, about: Mapping[str, Any]) -> Any:
    """Return the type of one value of an option. A text is taken as it is, even ``null``."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is not Literal and parts == [str]:
        return str
    if len(parts) == 1 and (about.get("action") == "append" or about.get("nargs") in ("+", "*")):
        return get_args(parts[0])[0] if get_args(parts[0]) else parts[0]
    return hint


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _descriptions(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the names of options and their descriptions, those of bases first."""
    for each in reversed(kind.__mro__):
        _, _, text = inspect.cleandoc(each.__doc__ or "").partition("\nArgs:\n")
        for name, description in _DESCRIBED.findall(text):
            yield name, " ".join(description.split())


@option_group
class AllowCode:
    """Option of commands that read what a training has written.

    Args:
        allow_code: Import the modules that the checkpoint, run or published folder names for a
            block of somebody's own, which runs their code; without it such a network is refused.
    """

    allow_code: bool = False


@option_group
class Checkpoint(AllowCode):
    """Option of commands that use a trained network.

    Args:
        checkpoint: Checkpoint file, the folder of a run (its best epoch), or a published folder.
            Default: the newest run below ./runs that has a checkpoint.
    """

    checkpoint: str | None = option(metavar="FILE|DIR")


@option_group
class Resume(AllowCode):
    """Options of ``train`` beside those of the configuration.

    Args:
        resume: Continue the run in the folder RUN from its last finished epoch, with its own
            configuration; default none. Alone, it means the newest run of --trainer.output that
            began its first step.
        force: Resume the run even if the files of its lists have changed, or a --config has another
            batch size. (Options on the command line beside --resume need no --force.)
    """

    resume: str | None = option(nargs="?", const="newest", metavar="RUN")
    force: bool = False


@option_group
class Profile:
    """Option of ``train`` that reports where loading took time.

    Args:
        profile: After every epoch, print the samples per second, the time spent waiting for them,
            and the seconds of the processes that decode in open, seek, decode, resize, copy and
            transform.
    """

    profile: bool = False


@option_group
class Model:
    """Option of commands that take an exported network, too.

    Args:
        model: File of video-snl export, .onnx or .pt2, in the place of a --checkpoint; default
            none. Reading a .pt2 file can run code in it, which cannot be told beforehand: take one
            only from where you would run a program from. An .onnx file runs none.
    """

    model: str | None = option(metavar="FILE")


@option_group
class Pretrained:
    """Options of commands that take a network with published weights.

    Args:
        pretrained: Network with published weights, by its name (such as x3d_xs; docs/pretrained.md
            lists them), in the place of a --checkpoint. They are fetched once. Default none.
        weights: File of these weights, where they are not to be fetched; default none.
    """

    pretrained: str | None = option(metavar="NAME")
    weights: str | None = option(metavar="FILE")


def check_one_network(
    model: str | None,
    checkpoint: str | None,
    pretrained: str | None = None,
    weights: str | None = None,
) -> None:
    """Refuse two networks at once.

    Raises:
        UserError: More than one of an exported file, a checkpoint and a published network is named,
            or weights without the name of their network.
    """
    named = {"--model": model, "--checkpoint": checkpoint, "--pretrained": pretrained}
    given = [f"{name} {value}" for name, value in named.items() if value is not None]
    if len(given) > 1:
        which = "one of the two" if len(given) == 2 else "one of the three"
        raise UserError(f"{' and '.join(given)}: give {which}.")
    if weights is not None and pretrained is None:
        raise UserError(
            f"--weights {weights} goes with the name of the network it is of: --pretrained NAME."
        )


@option_group
class Accelerator:
    """Option of commands that run a network.

    Args:
        accelerator: Where the network runs: auto (the GPU where there is one), cpu or gpu.
    """

    accelerator: str = "auto"


@option_group
class Engine:
    """Options of commands whose work may be done by Ray.

    Args:
        engine: Where the work is done: local (processes of this command), or ray (tasks of Ray, on
            this machine or on several; docs/cluster.md).
        ray_address: Ray cluster to join: HOST:PORT, as ray start prints it, or auto for the one of
            this machine. Default: one is started on this machine, and stopped at the end.
        num_cpus: With --engine ray, CPUs of a task, and threads of its network; default 1.
    """

    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = option(metavar="HOST:PORT")
    num_cpus: int | None = None

    def check_engine(self) -> None:
        """Refuse options of Ray that do not go together.

        Raises:
            UserError: It names the option and what it should be.
        """
        for name in ("ray_address", "num_cpus", "num_gpus"):
            value = getattr(self, name, None)
            if self.engine == "local" and value is not None:
                raise UserError(f"--{name} {value} goes with --engine ray: add it.")
        if self.num_cpus is not None and self.num_cpus < 1:
            raise UserError(f"--num_cpus {self.num_cpus}: give 1 or more.")


@option_group
class NetworkEngine(Engine):
    """Options of commands whose networks may be run by Ray.

    Args:
        num_gpus: With --engine ray, GPUs of a task; default 0, or 1 with --accelerator gpu.
    """

    num_gpus: float | None = None


@option_group
class Json:
    """Option of commands that print a table.

    Args:
        json: Print JSON instead of a table.
    """

    json: bool = False


@option_group
class MaxPixels:
    """Limit on pixels, of commands that have no data options.

    Args:
        max_pixels: Most pixels of an image or of a frame, height times width; default as in
            training. A larger one is refused before memory is taken for it.
    """

    max_pixels: int | None = option(metavar="N")


@option_group
class ClipReading:
    """Options for reading the clips of a video.

    Args:
        short_videos: What to do with a video shorter than a clip; default as in training.
        deadline: Seconds of decoding after which a video is given up; default as in training.
    """

    short_videos: Literal["error", "repeat_last", "wrap"] | None = None
    deadline: float | None = None


@option_group
class Crops:
    """Crops of a clip whose scores are averaged.

    Args:
        crops: Crops of a clip: 1 (centre) or 3 along its longer side.
    """

    crops: Literal[1, 3] = 3


@option_group
class Views(Crops):
    """Views of a video whose scores are averaged.

    Args:
        clips: Clips of a video, evenly spaced over its length.
    """

    clips: int = 10


@option_group
class Reports:
    """Options for written reports.

    Args:
        output: Folder for the reports; default 'evaluation' beside the checkpoint.
        strips: Most film strips (of images: pictures) on the page report.html; 0 for none, which
            saves decoding them.
    """

    output: str | None = None
    strips: int = option(120, metavar="N")


@option_group
class Unreadable:
    """Options for unreadable files.

    Args:
        unreadable: Files of the test list that cannot be read count as wrong, or are left out of
            all figures (skip).
    """

    unreadable: Literal["wrong", "skip"] = "wrong"


@option_group
class Render:
    """Options for drawing predictions.

    Args:
        render: Where to draw the predictions; default nowhere.
    """

    render: str | None = option(metavar="FILE|DIR")


@option_group
class Workers:
    """Processes that read a whole dataset.

    Args:
        num_workers: Processes side by side; default: as many as there are cores.
        deadline: Seconds that a file may take before it is given up.
        max_pixels: Most pixels of an image or of a frame, height times width; a larger one counts
            as unreadable, before memory is taken for it.
    """

    num_workers: int | None = None
    deadline: float = 20.0
    max_pixels: int = option(MAX_PIXELS, metavar="N")

    def check(self) -> None:
        """Refuse values that no process can work with.

        Raises:
            UserError: It names the option and what it should be.
        """
        # Always processes of their own: only those can be stopped at the deadline.
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError("--num_workers must be at least 1.")
        if not self.deadline > 0:  # which nan is not either
            raise UserError("--deadline must be more than 0 seconds.")
        if self.max_pixels < 1:
            raise UserError(f"--max_pixels {self.max_pixels}: give a number of pixels, 1 or more.")
