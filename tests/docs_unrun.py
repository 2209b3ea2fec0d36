"""Command lines of the documentation that no test runs as they stand, and why."""

from __future__ import annotations

import re
import shlex

# A pattern of command lines (without assignments, launchers and remarks) -> why they are not run.
UNRUN: dict[str, str] = {
    r"scripts/train_ucf101\.sh": "makes an environment and trains for minutes; "
    "tests/test_scripts.py runs it with stand-ins",
    r"(scripts/test\.sh|\.ci/run|python -m pytest)\b": "runs these tests",
    r"source \.venv/bin/activate": "activates the environment that these tests run in",
    r"pip install ": "needs a package index; tests/test_packaging.py installs the wheel",
    r"(mkdir|cd|unrar|unzip)\b": "unpacks the archives of UCF-101, which the reader has",
    r"python scripts/benchmarks/": "measures for minutes to hours",
    r"python scripts/market_subset\.py": "needs the archive of the subset; "
    "tests/reid/test_market_subset.py runs it on a small one",
    r"python scripts/(serve_picture|reid_pictures|explain_pictures)\.py": "needs a training of "
    "minutes and a browser; tests/explain/test_page_browser.py, tests/serve/test_serve_browser.py "
    "and tests/reid/test_reid_serve_browser.py look at pages of the same kinds",
    r"video-snl train .*\bmy_package\.": "needs the file that the page writes; "
    "tests/test_extend.py builds its networks, tests/engine/test_user_code.py trains others",
    r"ffmpeg |video-snl predict .* (-|(rtsp|http)://\S+|/dev/video0)$": "needs a camera, a server, "
    "or FFmpeg before it; tests/test_predict_streams.py has a server of RTSP, and pipes",
    r"video-snl (predict|export) .*--pretrained": "downloads published weights; "
    "tests/test_pretrained.py reads a file of them",
    r"video-snl train .*--model\.weights (kinetics|imagenet|x3d_xs)\b": "downloads published "
    "weights; tests/test_published_weights.py takes made-up files of their names and format from "
    "the cache",
    r"video-snl train --config finetune/x3d_xs_snl": "downloads published weights; "
    "tests/engine/test_own_runs.py trains with a file of them",
    r"video-snl train .*--model\.weights r3d(18|50)_K_200ep\.pth": "needs the published weights; "
    "tests/test_checkpoints.py loads made-up files of the same format",
    r"video-snl train .*--model\.weights SLOW_8x8_R50\.pyth": "needs the published weights; "
    "tests/test_published_weights.py takes a made-up file of that name and format from the cache",
    r"video-snl compare ": "needs several evaluated runs; tests/engine/test_compare.py has made-up "
    "ones",
    r"video-snl features ucf5\.parquet --probe ": "needs the file that the line before it writes; "
    "tests/test_features.py makes one",
    r"video-snl features --pretrained x3d_xs ": "downloads published weights; "
    "tests/test_published_features.py takes them from the file of real data",
    r"video-snl evaluate .*model_best\.pth\.tar": "needs a checkpoint of the released code; "
    "tests/engine/test_images_released.py evaluates files of the same format",
    r".* --trainer\.devices [248]": "needs several GPUs, or processes; "
    "tests/engine/test_distributed.py trains in two",
    r"sbatch .*scripts/slurm/": "needs a cluster; tests/engine/test_launchers.py gives both "
    "scripts to a SLURM of one node, where it is installed",
    r"video-snl table 2 .*--cluster slurm": "needs a cluster; tests/tables/test_table_cluster.py "
    "runs the jobs on a SLURM of one node, where it is installed, and without SLURM",
    r"video-snl table [2-7] (?!--dry_run)": "trains every cell of a table, for minutes to days; "
    "tests/tables runs tables of stand-ins",
    r"reid .*--pretrained osnet_x0_25_msmt17\b": "needs the published weights; "
    "tests/reid/test_pretrained.py takes files of the same format, and the published ones where "
    "they are",
    r"reid train --config configs/reid/market_subset_msmt17\.yaml": "needs the published weights; "
    "tests/reid/test_pretrained.py trains from a file of the same format",
    r"reid (calibrate|(search|identify) .*--calibrate) ": "needs features of hundreds of people; "
    "tests/reid/test_calibrate.py makes some",
    r"(reid tracklets one-by-one-person-detection\.mp4|awk|mv) ": "needs a video of real people; "
    "tests/reid/test_tracks.py does nearly the same with it where it is there",
    r"ray (start|stop|get-auth-token)\b|video-snl (check|features) .*--engine ray": "needs "
    "machines; tests/test_engine_ray.py has two raylets",
    r"createdb |reid (gallery|serve) .*postgresql://": "needs a server of the reader's; "
    "tests/reid/test_galleries.py and tests/reid/test_reid_serve.py run the commands on one",
    r"reid train .*--splits all": "trains ten times; tests/reid/test_cli.py has a stand-in for the "
    "training of a split",
    r"reid evaluate .*--checkpoint RUNS": "needs ten trainings; tests/reid/test_evaluate.py "
    "evaluates a folder of one run, and two runs together",
    r"reid evaluate --dataset sample": "trains for two minutes; tests/reid/test_cli.py has a "
    "stand-in for training and evaluation, tests/reid/test_evaluate.py evaluates small runs",
}


def why_not(words: list[str]) -> str | None:
    """Why a command line is not run; None if it is."""
    line = shlex.join(words)
    return next((why for pattern, why in UNRUN.items() if re.match(pattern, line)), None)
