"""Large captures: opening 5,000 images takes seconds and hardly more memory than 500, and never decodes a picture."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from raytrans.data import open_scene

MEASURE = """
import json, resource, sys, time
from raytrans.data import open_scene
start = time.process_time()
scene = open_scene(sys.argv[1])
seconds = time.process_time() - start
print(json.dumps([len(scene), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def picture_bytes(depth=False):
    content = io.BytesIO()
    Image.fromarray(np.full((3, 4), 700, np.uint16) if depth else np.zeros((3, 4, 3), np.uint8)).save(content, "png")
    return content.getvalue()


def undecodable():
    """A picture with a header, whose pixels are broken: whoever decodes it fails."""
    content = picture_bytes()
    at = content.index(b"IDAT") + 4
    return content[:at] + bytes(8) + content[at + 8 :]


def pose_of(i):
    pose = np.eye(4)
    pose[0, 3] = i
    return pose


def write_transforms(folder, count):
    (folder / "images").mkdir(parents=True)
    frames = [{"file_path": f"images/{i:05d}.png", "transform_matrix": pose_of(i).tolist()} for i in range(count)]
    for frame in frames:
        (folder / frame["file_path"]).write_bytes(undecodable())
    (folder / "transforms.json").write_text(json.dumps({"w": 4, "h": 3, "fl_x": 5.0, "frames": frames}))


def write_frames(folder, count):
    folder.mkdir(parents=True)
    (folder / "camera-intrinsics.txt").write_text("4 0 2 0 4 1.5 0 0 1")
    color, depth = undecodable(), picture_bytes(depth=True)
    for i in range(count):
        (folder / f"frame-{i:06d}.color.png").write_bytes(color)
        (folder / f"frame-{i:06d}.depth.png").write_bytes(depth)
        text = "\n".join(" ".join(map(str, line)) for line in pose_of(i))
        (folder / f"frame-{i:06d}.pose.txt").write_text(text)


def write_colmap(folder, count):
    (folder / "images").mkdir(parents=True)
    (folder / "sparse" / "0").mkdir(parents=True)
    picture = undecodable()
    for i in range(count):
        (folder / "images" / f"{i:05d}.png").write_bytes(picture)
    lines = [f"{i + 1} 1 0 0 0 {i} 0 0 1 {i:05d}.png\n{'2 1 -1 ' * 20}\n" for i in range(count)]
    (folder / "sparse" / "0" / "images.txt").write_text("".join(lines))
    (folder / "sparse" / "0" / "cameras.txt").write_text("1 PINHOLE 4 3 5 5 2 1.5\n")
    (folder / "sparse" / "0" / "points3D.txt").write_text("")


def measured(folder):
    run = [sys.executable, "-c", MEASURE, str(folder)]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_transforms, write_frames, write_colmap])
def test_5000_images_open_in_seconds_within_50_mb_of_500(tmp_path, write):
    for count in (500, 5000):
        write(tmp_path / str(count), count)
    few, few_seconds, few_mb = measured(tmp_path / "500")
    many, seconds, mb = measured(tmp_path / "5000")
    print(f"{write.__name__}: {few_seconds:.2f} s, {few_mb:.0f} MB; {seconds:.2f} s, {mb:.0f} MB")
    assert (few, many) == (500, 5000)
    assert seconds < 20 and mb - few_mb < 50


@pytest.mark.parametrize("write", [write_transforms, write_frames, write_colmap])
def test_opening_decodes_no_picture(tmp_path, write):
    write(tmp_path / "scene", 20)
    scene = open_scene(tmp_path / "scene")
    assert len(scene) == 20
    with pytest.raises(ValueError, match="broken or cut image"):
        scene.image(7)
