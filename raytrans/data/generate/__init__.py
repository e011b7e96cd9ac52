"""Generated scenes with exact depth."""

from raytrans.data.generate.rigs import Shooting
from raytrans.data.generate.scene import GeneratedScene, generated_scene
from raytrans.data.generate.testsets import TEST_SETS, test_set

__all__ = ["TEST_SETS", "GeneratedScene", "Shooting", "generated_scene", "test_set"]
