"""Look at a scene in the browser: its cameras, its points, and the model's rendering from where you are."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from raytrans.apps import cli
from raytrans.apps.captures import Capture, evenly_spaced
from raytrans.data.readers import open_scene
from raytrans.geometry.cameras import Cameras
from raytrans.viewer.server import Viewer
from raytrans.viewer.sources import Sources

CLOUD_VIEWS = 24
EVERYWHERE = ("0.0.0.0", "::")


def parser() -> ArgumentParser:
    """Command line of `tools/view.py`."""
    out = ArgumentParser(
        prog="view",
        description="A scene in the browser: cameras with their photographs, points of estimated depth, and behind "
        "them the model's rendering from where you are, coarse at once and finer when you rest. Colour, depth, opacity "
        "or spread; which source views render; camera paths, recorded ones too, and their videos; depth to take away. "
        "Ctrl-C ends it. Needs the extra `view`.",
    )
    out.add_argument("scene", metavar="SCENE", help=cli.SCENE)
    cli.add_checkpoint_argument(out)
    cli.add_source_arguments(out, max_size=200)
    text = "where to listen; the default is for browsers on this machine alone, 0.0.0.0 for everybody who can reach it "
    out.add_argument("--host", default="127.0.0.1", metavar="H", help=text + "(default: 127.0.0.1)")
    text = "port to listen at, 0 for any that is free (default: 8080)"
    out.add_argument("--port", type=port_number, default=8080, metavar="N", help=text)
    text = f"estimate the points of at most N views, evenly spaced; 0 for none (default: {CLOUD_VIEWS})"
    out.add_argument("--cloud-views", type=cli.whole_number, default=CLOUD_VIEWS, metavar="N", help=text)
    return out


def port_number(text: str) -> int:
    """A number from 0 to 65535, as an argparse type."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def main(arguments: Namespace) -> int:
    """Serve the scene until Ctrl-C."""
    capture = Capture(open_scene(arguments.scene), arguments.sources, arguments.max_size)
    model = cli.load_model(arguments, [capture.scene])
    viewer = Viewer(sources_of(model, capture), arguments.sources, arguments.max_size, arguments.host, arguments.port)
    try:
        usable = viewer.maker.sources.usable
        chosen = evenly_spaced(len(usable), arguments.cloud_views) if arguments.cloud_views and len(usable) > 1 else []
        viewer.estimate(tuple(usable[i] for i in chosen), arguments.sources)
        shown = "localhost" if arguments.host in EVERYWHERE else arguments.host
        cli.say(f"{capture.scene.path}: http://{f'[{shown}]' if ':' in shown else shown}:{viewer.port}")
        if arguments.host in EVERYWHERE:
            cli.warn(["everybody who can reach this machine can look, and make it work"])
        viewer.run()
    finally:
        viewer.stop()
    return 0


def sources_of(model, capture: Capture) -> Sources:
    """The views of a capture at its size, those that are not held out to render from; ValueError where none is left."""
    cameras = Cameras.stack([capture.camera(i) for i in range(len(capture.scene))])
    usable = capture.sources(cameras[0]) and capture.scene.split("train")
    return Sources(model, cameras, usable, capture.views)
