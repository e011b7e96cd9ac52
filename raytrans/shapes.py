"""Shape annotations of jaxtyping, or plain tensor types where it is absent: training needs torch and numpy alone.

`Float[Tensor, "*batch 3"]` says dtype and shape. The tests check what the annotations say, nothing else does.
"""

try:
    from jaxtyping import Bool, Complex, Float, Int
except ImportError:

    class _Unchecked:
        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Complex = Float = Int = _Unchecked

__all__ = ["Bool", "Complex", "Float", "Int"]
