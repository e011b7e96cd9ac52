"""Camera poses of photographs by COLMAP's structure from motion, on the CPU, through pycolmap."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from raytrans.apps.photos import Photo
from raytrans.apps.repeats import unfold
from raytrans.export.files import write_text

EXHAUSTIVE = 150  # photographs up to which every pair is matched
OVERLAP = 10  # neighbours in the order of names that are matched beyond that
FEATURE_CHUNK, PAIR_CHUNK = 8, 200
SIMPLE, FULL = "SIMPLE_RADIAL", "OPENCV"
SHARED = 8  # registered photographs of one lens from which the full lens can be told
DRIFT = 0.05  # change of a focal length by the full lens from which nothing held it
ENOUGH = 0.8  # share of registered images that is not worth a second attempt
PEAK = 0.003  # contrast of features; COLMAP's 0.0067 finds too few on plain things
Say = Callable[[str], None]
Tell = Callable[[str, int, int], None]
"""Called with a stage, how many of its steps are done, and how many it has."""


def require_pycolmap() -> Any:
    """The module pycolmap with a quiet log; ValueError saying how to install it where it is absent."""
    try:
        import pycolmap
    except ImportError as error:
        hint = "in the clone, `pip install --editable '.[photos]'` installs it"
        raise ValueError(f"pycolmap is needed ({error}); {hint}") from None
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


def image_pairs(names: Sequence[str], exhaustive: int = EXHAUSTIVE) -> list[tuple[str, str]]:
    """Pairs to match: all of up to `exhaustive` names.

    Beyond that, in the order of names, neighbours up to 10 apart, those 16, 32, ... apart, and all pairs of every
    tenth, which close loops.
    """
    if len(names) <= exhaustive:
        return list(combinations(names, 2))
    count = len(names)
    steps = [*range(1, OVERLAP + 1), *(2**k for k in range(4, count.bit_length()) if 2**k < count)]
    pairs = {(i, i + step) for step in steps for i in range(count - step)}
    pairs |= set(combinations(range(0, count, max(OVERLAP, count // EXHAUSTIVE)), 2))
    return [(names[a], names[b]) for a, b in sorted(pairs)]


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    """Consecutive parts of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))


def extract(database: Path, folder: Path, photos: Sequence[Photo], lens: str | None, options: Any, tell: Tell) -> None:
    """Find features; photographs with the same size, camera and focal length share one lens."""
    pycolmap = require_pycolmap()
    groups: dict[tuple, list[str]] = {}
    for photo in photos:
        groups.setdefault(photo.lens, []).append(photo.name)
    done = 0
    for names in groups.values():
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = lens or SIMPLE
        for part in chunks(names, FEATURE_CHUNK):
            pycolmap.extract_features(
                database,
                folder,
                image_names=list(part),
                camera_mode=pycolmap.CameraMode.SINGLE,
                reader_options=reader,
                extraction_options=options,
                device=pycolmap.Device.cpu,
            )
            with pycolmap.Database.open(database) as stored:
                reader.existing_camera_id = max(camera.camera_id for camera in stored.read_all_cameras())
            done += len(part)
            tell("features of images", done, len(photos))


def match(database: Path, work: Path, pairs: Sequence[tuple[str, str]], options: Any, tell: Tell) -> None:
    """Match and verify pairs of images."""
    pycolmap = require_pycolmap()
    done, listed = 0, work / "pairs.txt"
    for part in chunks(pairs, PAIR_CHUNK):
        write_text(listed, "".join(f"{a} {b}\n" for a, b in part))
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = listed
        pycolmap.match_image_pairs(
            database, matching_options=options, pairing_options=pairing, device=pycolmap.Device.cpu
        )
        done += len(part)
        tell("matching pairs", done, len(pairs))


def largest_model(
    database: Path, folder: Path, work: Path, count: int, threads: int, say: Say, tell: Tell
) -> Any | None:
    """Reconstruct, and give the model with the most images; None where there is none."""
    pycolmap = require_pycolmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size, options.num_threads, options.random_seed = 3, threads, 0
    registered = 2

    def step() -> None:
        nonlocal registered
        registered += 1
        tell("mapping images", min(registered, count), count)

    models_folder = Path(mkdtemp(prefix="models-", dir=work))
    models = pycolmap.incremental_mapping(database, folder, models_folder, options=options, next_image_callback=step)
    if len(models) > 1:
        sizes = sorted((model.num_reg_images() for model in models.values()), reverse=True)
        say(f"mapping: {len(models)} separate models of {sizes} images; the largest is kept")
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def refined_lenses(model: Any) -> Any:
    """The model with all coefficients of OpenCV's lens where many images share one, adjusted once more.

    Mapping with one coefficient is robust, and f, cx, cy, k are the start of fx, fy, cx, cy, k1, k2, p1, p2. Where
    things fill the middle of the pictures only, coefficients or focal lengths run away; then the model is given as it
    was.
    """
    pycolmap = require_pycolmap()
    before, model = model, pycolmap.Reconstruction(model)
    uses = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    shared = [camera for number, camera in model.cameras.items() if uses[number] >= SHARED]
    focal = [camera.params[0] for camera in shared]
    for camera in shared:
        f, cx, cy, k = camera.params
        camera.model, camera.params = getattr(pycolmap.CameraModelId, FULL), [f, f, cx, cy, k, 0, 0, 0]
    if shared:
        options = pycolmap.BundleAdjustmentOptions()
        options.print_summary = False
        adjusted = pycolmap.BundleAdjustmentConfig()
        for number in model.reg_image_ids():
            adjusted.add_image(number)
        adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()
        model.update_point_3d_errors()
    wild = any(ran_away(camera.params.tolist(), float(f)) for camera, f in zip(shared, focal, strict=True))
    return before if wild else model


def ran_away(params: Sequence[float], focal: float) -> bool:
    """Whether fx, fy, cx, cy, k1, k2, p1, p2 are no lens any more, or have left the focal length they started from."""
    return any(abs(value) > 1 for value in params[4:]) or any(abs(f / focal - 1) > DRIFT for f in params[:2])


def pose(folder: Path, photos: Sequence[Photo], work: Path, settings: dict, say: Say, tell: Tell) -> Any | None:
    """The largest model of the photographs in a folder, or None; `settings`: lens, max_size, threads.

    Where too few are registered, all is done again with fainter features and guided matching, several times as slow.
    """
    model = _attempt(folder, photos, work / "quick", settings, say, tell)
    if _registered(model) < ENOUGH * len(photos):
        say(f"{_registered(model)} of {len(photos)} images registered; once more with fainter features")
        thorough = _attempt(folder, photos, work / "thorough", {**settings, "thorough": True}, say, tell)
        model = max(model, thorough, key=_registered)
    if model is not None and settings["lens"] is None:
        return refined_lenses(model)
    return model


def _registered(model: Any | None) -> int:
    return 0 if model is None else model.num_reg_images()


def _attempt(folder: Path, photos: Sequence[Photo], work: Path, settings: dict, say: Say, tell: Tell) -> Any | None:
    """Features, matches, mapping, and what unfolds the model."""
    pycolmap = require_pycolmap()
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.max_image_size, extraction.num_threads = settings["max_size"], settings["threads"]
    matching.num_threads = settings["threads"]
    if settings.get("thorough"):
        extraction.sift.peak_threshold, matching.guided_matching = PEAK, True
    work.mkdir()
    database = work / "database.db"
    extract(database, folder, photos, settings["lens"], extraction, tell)
    match(database, work, image_pairs([photo.name for photo in photos]), matching, tell)

    def remap(pairs: Path) -> Any | None:
        return largest_model(pairs, folder, work, len(photos), settings["threads"], say, tell)

    model = remap(database)
    return model if model is None else unfold(model, database, remap, say)
