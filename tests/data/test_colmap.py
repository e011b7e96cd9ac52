"""The reader of COLMAP models: against pycolmap, the format's published example, a real capture, and broken files."""

import logging
import shutil
import time

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from raytrans.data import open_scene

SIZE = (40, 30)  # width, height
PARAMETERS = {
    "SIMPLE_PINHOLE": [35.0, 19.0, 16.0],
    "PINHOLE": [35.0, 33.0, 19.0, 16.0],
    "SIMPLE_RADIAL": [35.0, 19.0, 16.0, -0.1],
    "RADIAL": [35.0, 19.0, 16.0, -0.1, 0.03],
    "OPENCV": [35.0, 33.0, 19.0, 16.0, -0.1, 0.03, 0.002, -0.003],
    "FULL_OPENCV": [35.0, 33.0, 19.0, 16.0, 0.3, -0.12, 0.002, -0.003, 0.02, 0.6, -0.1, 0.05],
    "OPENCV_FISHEYE": [35.0, 33.0, 19.0, 16.0, 0.05, -0.01, 0.003, -0.001],
    "SIMPLE_RADIAL_FISHEYE": [35.0, 19.0, 16.0, 0.05],
    "RADIAL_FISHEYE": [35.0, 19.0, 16.0, 0.05, -0.01],
    "SIMPLE_FISHEYE": [35.0, 19.0, 16.0],
    "FISHEYE": [35.0, 33.0, 19.0, 16.0],
}
UNSUPPORTED = {"FOV": [35.0, 33.0, 19.0, 16.0, 0.5], "THIN_PRISM_FISHEYE": [35.0, 33.0, 19.0, 16.0, *[0.01] * 8]}
PUBLISHED = {  # colmap.github.io/format.html
    "cameras.txt": "# Camera list\n1 SIMPLE_PINHOLE 3072 2304 2559.81 1536 1152\n"
    "3 SIMPLE_RADIAL 3072 2304 2559.69 1536 1152 -0.0218531\n",
    "images.txt": "# Image list\n"
    "1 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 3 P1180141.JPG\n"
    "2362.39 248.498 58396 1784.7 268.254 63390 1784.7 268.254 -1\n"
    "2 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P1180142.JPG\n"
    "1190.83 663.957 63376 1258.77 640.354 63390\n",
    "points3D.txt": "# 3D point list\n63390 1.67241 0.292931 0.609726 115 121 122 1.33927 16 6542 15 7345\n"
    "63376 2.01848 0.108877 -0.0260841 102 209 250 1.73449 16 6519 15 7322\n",
}


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (51, 102, 153)).save(path)


def reconstruction(names, model="OPENCV", parameters=None, count=12, seed=0):
    """Cameras around the origin that see `count` points, made and projected by pycolmap."""
    random = np.random.default_rng(seed)
    made = pycolmap.Reconstruction()
    width, height = SIZE
    parameters = parameters or PARAMETERS.get(model) or UNSUPPORTED[model]
    made.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model=model, width=width, height=height, params=parameters)
    )
    points = random.uniform(-1, 1, (count, 3))
    for key, name in enumerate(names, 1):
        turn = pycolmap.Rotation3d(random.uniform(-0.1, 0.1, 3))
        pose = pycolmap.Rigid3d(turn, np.array([0.3 * key, 0.1, 4.0]))
        seen = [made.cameras[1].img_from_cam(pose * xyz) for xyz in points]
        image = pycolmap.Image(name=name, camera_id=1, image_id=key, keypoints=np.array(seen))
        made.add_image_with_trivial_frame(image, pose)
    for index, xyz in enumerate(points):
        track = pycolmap.Track([pycolmap.TrackElement(key, index) for key in range(1, len(names) + 1)])
        made.add_point3D(xyz, track, np.array([10 * index, 20, 30], np.uint8))
    return made


def capture(root, names=("a.png", "b.png"), model="OPENCV", place="sparse/0", text=False, images="images", **rest):
    made = reconstruction(names, model, **rest)
    (root / place).mkdir(parents=True, exist_ok=True)
    (made.write_text if text else made.write_binary)(root / place)
    for name in names:
        picture(root / images / name)
    return made


def published(root, size=(384, 288)):
    for name, text in PUBLISHED.items():
        (root / "sparse").mkdir(exist_ok=True)
        (root / "sparse" / name).write_text(text)
    for name in ("P1180141.JPG", "P1180142.JPG"):
        picture(root / "images_8" / name, size)
    return root


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("model", PARAMETERS)
def test_every_camera_model_projects_as_pycolmap_does(tmp_path, model, text):
    made = capture(tmp_path, model=model, text=text)
    scene = open_scene(tmp_path)
    points = np.random.default_rng(1).uniform(-1.3, 1.3, (50, 3))
    for camera, key in zip(scene.cameras, sorted(made.images), strict=True):
        expected = np.array([made.images[key].project_point(xyz) for xyz in points])
        pixels, z = camera.project(torch.from_numpy(points))
        assert np.abs(pixels.numpy() - expected).max() < 1e-9
        assert np.allclose(z, (made.images[key].cam_from_world() * points)[:, 2], atol=1e-9)
        inside = camera.pixel_rays(pixels).direction
        toward = torch.from_numpy(points) - camera.centers
        assert torch.allclose(inside, toward / toward.norm(dim=-1, keepdim=True), atol=1e-10)


def test_a_wrong_pose_convention_would_be_seen(tmp_path):
    made = capture(tmp_path)
    camera = open_scene(tmp_path).cameras[1]
    point = np.array([0.2, -0.1, 0.3])
    wrong = camera.moved(torch.eye(3), torch.tensor([0.01, 0.0, 0.0]))
    expected = made.images[2].project_point(point)
    assert np.abs(wrong.project(torch.from_numpy(point))[0].numpy() - expected).max() > 1e-2


def test_text_and_binary_of_one_model_are_equal(tmp_path):
    capture(tmp_path / "one")
    capture(tmp_path / "two", text=True)
    binary, text = open_scene(tmp_path / "one"), open_scene(tmp_path / "two")
    assert torch.allclose(binary.cameras.world_from_camera, text.cameras.world_from_camera, atol=1e-12)
    assert torch.equal(binary.cameras.intrinsics, text.cameras.intrinsics)
    a, b = binary.sparse_points(), text.sparse_points()
    assert np.allclose(a.xyz, b.xyz, atol=1e-12) and np.array_equal(a.rgb, b.rgb) and len(a) == 12
    for (index, pixels), (other, same) in zip(a.observations, b.observations, strict=True):
        assert np.array_equal(index, other) and np.allclose(pixels, same, atol=1e-4)


def test_sparse_points_are_seen_where_they_project(tmp_path):
    made = capture(tmp_path)
    scene = open_scene(tmp_path)
    points = scene.sparse_points()
    assert points is scene.sparse_points() and np.array_equal(points.rgb[3], [30, 20, 30])
    for index in range(2):
        pixels, z = scene.sparse_depth(index)
        expected = [made.images[index + 1].cam_from_world() * made.points3D[key].xyz for key in sorted(made.points3D)]
        assert pixels.shape == (12, 2) and np.allclose(z, np.array(expected)[:, 2])
        assert torch.allclose(pixels, scene.cameras[index].project(torch.from_numpy(points.xyz))[0], atol=1e-9)
        assert np.allclose(scene.sparse_range(index), np.percentile(np.array(expected)[:, 2], [1, 99]))


def test_the_published_example_in_images_of_an_eighth(tmp_path):
    scene = open_scene(published(tmp_path))
    camera, xyz = scene.cameras[0], np.array([1.67241, 0.292931, 0.609726])
    w, v = 0.851773, np.array([0.0165051, 0.503764, -0.142941])
    length = np.sqrt(w * w + v @ v)
    w, v = w / length, v / length
    local = xyz + 2 * w * np.cross(v, xyz) + 2 * np.cross(v, np.cross(v, xyz)) + [-0.737434, 1.02973, 3.74354]
    x, y = local[:2] / local[2]
    curve = 1 - 0.0218531 * (x * x + y * y)
    expected = (2559.69 * curve * x + 1536) / 8, (2559.69 * curve * y + 1152) / 8
    pixel, z = camera.project(torch.from_numpy(xyz))
    assert np.allclose(pixel, expected) and np.isclose(z, local[2]) and (camera.height, camera.width) == (288, 384)
    index, pixels = scene.sparse_points().observations[0]
    # point 58396 is not in the list of points, and -1 is none
    assert index.tolist() == [1] and np.allclose(pixels, [[1784.7 / 8, 268.254 / 8]])
    assert scene.image(0).shape == (288, 384, 3)


def test_each_axis_is_scaled_by_its_own_ratio(tmp_path):
    scene = open_scene(published(tmp_path, size=(383, 288)))
    assert torch.allclose(scene.cameras[1].intrinsics[0, 0], torch.tensor(2559.81 * 383 / 3072).double())
    assert torch.allclose(scene.cameras[1].intrinsics[1, 1], torch.tensor(2559.81 / 8).double())


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "colmap", "."])
def test_folder_layouts(tmp_path, place):
    capture(tmp_path, place=place)
    assert len(open_scene(tmp_path)) == 2
    assert len(open_scene(tmp_path / place)) == 2
    assert len(open_scene((tmp_path / place).parent if place.endswith("0") else tmp_path)) == 2
    assert len(open_scene(tmp_path / place / "images.bin")) == 2


def test_the_model_with_most_images_is_taken_and_named(tmp_path, caplog):
    capture(tmp_path, names=("a.png",), place="sparse/0")
    capture(tmp_path, names=("b.png", "c.png", "d.png"), place="sparse/1", text=True)
    with caplog.at_level(logging.WARNING):
        scene = open_scene(tmp_path)
    assert [frame.image.name for frame in scene.frames] == ["b.png", "c.png", "d.png"]
    assert "sparse/1" in caplog.text and "most images, 3 (0 has 1)" in caplog.text


def test_views_are_sorted_by_name_in_folders_with_odd_names(tmp_path):
    names = ("z/1.png", "a/Größe 2.png", "a/1.png")
    root = tmp_path / "my scene ü"
    made = capture(root, names=names)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    for path in (root, tmp_path / "link"):
        scene = open_scene(path)
        assert [f"{f.image.parent.name}/{f.image.name}" for f in scene.frames] == sorted(names)
        pixel = scene.cameras[0].project(torch.tensor([0.1, 0.2, 0.3]))[0]
        assert np.allclose(pixel, made.images[3].project_point(np.array([0.1, 0.2, 0.3])), atol=1e-6)


def test_whole_images_are_preferred_to_small_ones(tmp_path):
    capture(tmp_path)
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images_2" / name, (20, 15))
    assert open_scene(tmp_path).cameras[0].width == 40
    shutil.rmtree(tmp_path / "images")
    assert open_scene(tmp_path).cameras[0].width == 20


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0"])
def test_a_folder_of_smaller_images_is_opened_by_its_path(tmp_path, place):
    made = capture(tmp_path, model="PINHOLE", place=place)
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images_4" / name, (10, 8))  # 30 / 4 is rounded up
    scene = open_scene(tmp_path / "images_4")
    assert [frame.image for frame in scene.frames] == [tmp_path / "images_4" / name for name in ("a.png", "b.png")]
    point = np.array([0.2, -0.1, 0.3])
    expected = made.images[1].project_point(point) * [10 / 40, 8 / 30]
    assert np.allclose(scene.cameras[0].project(torch.from_numpy(point))[0], expected, atol=1e-9)
    assert open_scene(tmp_path / "images").cameras[0].width == 40
    assert scene.path == open_scene(tmp_path).path


def test_a_capture_may_be_called_images(tmp_path):
    capture(tmp_path / "images", images="images_2")
    assert open_scene(tmp_path / "images").path == tmp_path / "images"


def test_an_empty_folder_of_images_is_named(tmp_path):
    capture(tmp_path)
    (tmp_path / "images_4").mkdir()
    with pytest.raises(ValueError, match=r"none of its 2 images exists; looked for a\.png first, in .*/images_4$"):
        open_scene(tmp_path / "images_4")


def test_the_folder_that_holds_most_images_is_taken(tmp_path, caplog):
    capture(tmp_path, names=("a.png", "b.png", "c.png"))
    for name in ("b.png", "c.png"):
        (tmp_path / "images" / name).unlink()
        picture(tmp_path / "images_2" / name, (20, 15))
    with caplog.at_level(logging.WARNING):
        scene = open_scene(tmp_path)
    assert [frame.image.parent.name for frame in scene.frames] == ["images_2"] * 2
    assert "1 of 3 images do not exist" in caplog.text and "first: a.png" in caplog.text


def test_missing_images_are_left_out_with_one_warning(tmp_path, caplog):
    capture(tmp_path, names=("a.png", "b.png", "c.png"))
    (tmp_path / "images" / "b.png").unlink()
    with caplog.at_level(logging.WARNING):
        scene = open_scene(tmp_path)
    assert [frame.image.name for frame in scene.frames] == ["a.png", "c.png"] and len(caplog.records) == 1
    assert "1 of 3" in caplog.text and "b.png" in caplog.text
    assert len(scene.sparse_points().observations) == 2
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(ValueError, match=r"images.bin: none of its 3 images exists; looked for a.png first"):
        open_scene(tmp_path)


def test_pixels_are_taken_as_stored(tmp_path):
    capture(tmp_path, names=("a.png",))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(tmp_path / "images" / "a.png", exif=exif)
    assert open_scene(tmp_path).image(0).shape == (30, 40, 3)


@pytest.mark.parametrize("model", UNSUPPORTED)
@pytest.mark.parametrize("text", [False, True])
def test_other_lenses_are_refused_by_name(tmp_path, model, text):
    capture(tmp_path, model=model, text=text)
    with pytest.raises(ValueError, match=rf"cameras\.(bin|txt): expected cameras of .*; got {model}"):
        open_scene(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_cut_binary_names_its_file(tmp_path, name, share):
    capture(tmp_path)
    file = tmp_path / "sparse/0" / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}: cut short"):
        open_scene(tmp_path).sparse_points()


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_wrong_counts_name_their_file(tmp_path, name):
    capture(tmp_path)
    file = tmp_path / "sparse/0" / name
    content = file.read_bytes()
    count = int.from_bytes(content[:8], "little")
    for wrong, words in ((count + 1, "cut short"), (2**60, "cut short"), (count - 1, "more bytes|at least one")):
        file.write_bytes(wrong.to_bytes(8, "little") + content[8:])
        with pytest.raises(ValueError, match=rf"{name}.*({words})"):
            open_scene(tmp_path).sparse_points()


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("cameras.txt", "1 SIMPLE_PINHOLE", "1 PINHOLE", "line 2: PINHOLE: expected size and 4 parameters, got 5"),
        ("cameras.txt", "SIMPLE_RADIAL", "BROWN", "line 3: expected an id and a camera model of .*, got 'BROWN'"),
        ("cameras.txt", "2559.69", "nan", "line 3: expected finite parameters"),
        ("cameras.txt", "2559.69", "-1", "expected positive focal lengths, got -1"),
        ("cameras.txt", "3 SIMPLE", "1 SIMPLE", "line 3: expected every camera once, got id 1 again"),
        ("cameras.txt", "1 SIMPLE_PINHOLE 3072", "1 SIMPLE_PINHOLE 0", "line 2: expected a positive width"),
        ("images.txt", "3 P1180141", "9 P1180141", "image P1180141.JPG: expected a camera of cameras.txt, got id 9"),
        ("images.txt", "0.851773", "nan", "image P1180141.JPG: expected a finite quaternion of length 1"),
        ("images.txt", "1 0.851773", "1 1.9", "image P1180141.JPG: expected a finite quaternion of length 1"),
        ("images.txt", "1.02973", "x", "line 2: expected a number, got 'x'"),
        ("images.txt", "1190.83 663.957 ", "", "line 5: expected the observations of P1180142.JPG"),
        ("images.txt", "P1180142", "P1180141", "P1180141.JPG: expected every image once"),
        ("points3D.txt", "0.292931", "inf", "point 63390: expected finite coordinates"),
        ("points3D.txt", "63376 ", "63390 ", "expected every point once, got id 63390 again"),
    ],
)
def test_broken_text_names_file_and_line(tmp_path, name, old, new, words):
    file = published(tmp_path) / "sparse" / name
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"{name}: .*{words}"):
        open_scene(tmp_path).sparse_points()


@pytest.mark.parametrize("broken", ["1.0 2.0", "1.0", "1.0 x 3", "1.0 2.0 99999999999999999999", "1.0 2.0 3.5"])
def test_broken_observations_name_their_image(tmp_path, broken):
    file = published(tmp_path) / "sparse/images.txt"
    file.write_text(file.read_text().replace("1190.83 663.957 63376", "1190.83 663.957 63376 " * 40 + broken))
    with pytest.raises(ValueError, match=r"images\.txt: image P1180142.JPG: expected x, y and point id"):
        open_scene(tmp_path).sparse_points()


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("images.bin", r"expected images.bin or images.txt beside the other files of the model, got neither"),
        ("cameras.bin", r"expected cameras.bin or cameras.txt beside the other files of the model, got neither"),
    ],
)
def test_half_a_model_names_what_is_missing(tmp_path, gone, words):
    capture(tmp_path)
    (tmp_path / "sparse/0" / gone).unlink()
    with pytest.raises(ValueError, match=words):
        open_scene(tmp_path)


def test_cameras_without_images_an_archive_and_an_empty_picture(tmp_path):
    capture(tmp_path)
    (tmp_path / "images" / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: "):
        open_scene(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "scene"), "zip", tmp_path / "sparse")
    with pytest.raises(ValueError, match=r"scene\.zip: not a scene .* unpack it"):
        open_scene(archive)
    (tmp_path / "sparse/0/images.bin").write_bytes((0).to_bytes(8, "little"))
    with pytest.raises(ValueError, match=r"images\.bin: expected at least one image with a pose, got none"):
        open_scene(tmp_path)


def test_without_points_there_is_no_sparse_depth(tmp_path):
    capture(tmp_path)
    (tmp_path / "sparse/0/points3D.bin").unlink()
    scene = open_scene(tmp_path)
    assert scene.sparse_points() is scene.sparse_depth(0) is scene.sparse_range(0) is None


def test_a_thousand_images_open_in_a_second_or_two(tmp_path):
    folder = published(tmp_path) / "sparse"
    names = [f"{i:04d}.jpg" for i in range(1000)]
    pose = "0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1"
    (folder / "images.txt").write_text("".join(f"{i + 1} {pose} {name}\n\n" for i, name in enumerate(names)))
    for name in names:
        (tmp_path / "images_8" / name).symlink_to(tmp_path / "images_8/P1180141.JPG")
    start = time.process_time()
    assert len(open_scene(tmp_path)) == 1000
    assert time.process_time() - start < 4


def test_soda_can_reprojects_as_its_file_states(real_data):
    scene = open_scene(real_data("soda_can"))
    stated = pycolmap.Reconstruction(real_data("soda_can") / "sparse/0")
    points = scene.sparse_points()
    total, count = np.zeros(len(points)), np.zeros(len(points))
    for camera, (index, pixels) in zip(scene.cameras, points.observations, strict=True):
        error = camera.project(torch.from_numpy(points.xyz[index]))[0].numpy() - pixels
        np.add.at(total, index, np.linalg.norm(error, axis=-1))
        np.add.at(count, index, 1)
    assert len(scene) == 71 and len(points) == 4414 and count.sum() == 30839
    # pixel centres at 0 instead of 0.5 would change the mean by a tenth of a pixel and more
    assert (total / count).mean() == pytest.approx(stated.compute_mean_reprojection_error(), abs=1e-6)
    image = next(image for image in stated.images.values() if image.name == scene.frames[5].image.name)
    seen = [(p.xy, stated.points3D[p.point3D_id].xyz) for p in image.points2D if p.has_point3D()]
    pixels, z = scene.sparse_depth(5)
    assert np.allclose(pixels, [xy for xy, _ in seen])
    assert np.allclose(z, [(image.cam_from_world() * xyz)[2] for _, xyz in seen])
