"""Read the vertices of a mesh or a scene of meshes."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stnrot.errors import InputError, needs_extra
from stnrot.regular_file import check_regular


def read_vertices(path: Path) -> Float[np.ndarray, "N 3"]:
    """Read each vertex of a file once. The meshes of a scene are placed as the scene places them."""
    with needs_extra("a mesh file"):
        import trimesh
        from trimesh.resolvers import FilePathResolver

    class RegularFiles(FilePathResolver):
        """Read the files that a mesh names, such as the .bin of a .gltf."""

        def get(self, name: str) -> bytes:
            folder = Path(self.parent).resolve()
            if not (folder / name.strip()).resolve().is_relative_to(folder):
                raise InputError(f"{path} names the file {name!r:.80}: expected one in the folder of the mesh")
            check_regular(folder / name)
            return super().get(name)

    kind = path.suffix.lower().removeprefix(".")
    with path.open("rb") as file:
        # else vertices at texture seams appear twice
        options: Any = {"process": False, "maintain_order": True, "resolver": RegularFiles(str(path))}
        loaded: Any = trimesh.load(file, file_type=kind, **options)
    is_scene = isinstance(loaded, trimesh.Scene)
    parts = loaded.dump() if is_scene else [loaded]
    if not parts:
        raise ValueError("it has no points")
    vertices = np.concatenate([part.vertices for part in parts])
    # each part of an .obj has the vertices of all, each triangle of an .stl its own corners
    return np.unique(vertices, axis=0) if is_scene or kind == "stl" else vertices
