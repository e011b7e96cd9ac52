"""Meshes in generated scenes against closed forms."""

import numpy as np
import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.data.generate.layout import Layout, Material, haar
from raytrans.data.generate.meshes import MeshSet, read_mesh
from raytrans.data.generate.solids import BOX, intersect

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")


@pytest.fixture(scope="module")
def box_file(tmp_path_factory):
    """A box of sides 1, 2, 4 (y up) whose texture is red in its left half and green in its right half."""
    from PIL import Image

    box = trimesh.creation.box(extents=(1, 2, 4))
    box.unmerge_vertices()
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 1] = 255, 255
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    # faces looking along x are red, the others green
    side = np.abs(np.repeat(box.face_normals, 3, axis=0)[:, 0]) > 0.5
    uv = np.where(side, 0.25, 0.75)[:, None] + 0.05 * np.random.default_rng(0).uniform(-1, 1, (len(box.vertices), 2))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    path = tmp_path_factory.mktemp("meshes") / "box.glb"
    box.export(path)
    return path


def test_mesh_is_read_upright_and_of_unit_size(box_file):
    mesh = read_mesh(str(box_file))
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.25, 1.0, 0.5], atol=1e-6)  # y up became z up
    np.testing.assert_allclose(mesh.vertices.min(0), [-0.125, -0.5, 0], atol=1e-6)


def test_mesh_box_is_met_like_the_solid_box(box_file):
    rng = np.random.default_rng(1)
    rotation, center = haar(rng), np.array([0.2, -0.1, 0.3])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, center - rotation @ [0, 0, 0.25]
    meshes = MeshSet([(read_mesh(str(box_file)), matrix, 0)])
    layout = Layout(rng)
    layout.add(BOX, center, (0.125, 0.5, 0.25), Material(0), rotation)
    origin = torch.from_numpy(rng.standard_normal((3, 600)))
    origin = 3 * origin / origin.norm(dim=0)
    direction = torch.from_numpy(rng.uniform(-0.6, 0.6, (3, 600))) - origin
    expected = intersect(layout.built(), origin, direction)[0]
    t, face, weights = meshes.meet(origin, direction)
    agree = t.isfinite() == expected.isfinite()
    assert float(agree.double().mean()) > 0.99 and int(t.isfinite().sum()) > 80
    both = t.isfinite() & expected.isfinite()
    torch.testing.assert_close(t[both], expected[both], rtol=1e-6, atol=0)
    assert bool((weights[:, both] > -1e-6).all()) and bool((weights.sum(0) - 1).abs().max() < 1e-9)
    normal, coordinates, _, _ = meshes.surface(face, weights.float(), direction.float())
    local = torch.from_numpy(rotation).T @ normal.double()
    red = (coordinates[0] < 0.5) & both
    assert bool((local[0].abs()[red] > 0.99).all()) and int(red.sum()) > 20
    assert bool((local[0].abs()[both & ~red] < 0.01).all())
    assert bool(((normal * direction).sum(0)[both] < 0).all())
    blocked = meshes.blocks(origin, direction)
    assert torch.equal(blocked[agree], expected.isfinite()[agree])


@pytest.mark.parametrize("kind", ["easy", "full"])
def test_mesh_joins_the_scene(box_file, kind):
    scene = generated_scene(4, kind, (32, 32), 3, meshes=[box_file])
    again = generated_scene(4, kind, (32, 32), 3, meshes=[box_file])
    without = generated_scene(4, kind, (32, 32), 3)
    assert torch.equal(scene.images, again.images)
    assert float((scene.images - without.images).abs().mean()) > 1e-3


def test_unreadable_mesh_is_named(tmp_path):
    broken = tmp_path / "broken.glb"
    broken.write_bytes(b"not a mesh")
    with pytest.raises(ValueError, match="broken.glb"):
        generated_scene(0, "easy", (8, 8), 1, meshes=[broken])
    with pytest.raises(ValueError, match="absent.glb"):
        generated_scene(0, "easy", (8, 8), 1, meshes=[tmp_path / "absent.glb"])
