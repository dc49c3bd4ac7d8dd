"""Find the checkpoints of a run, newest first, and pass over damaged ones.

`engine.checkpoints` writes them and describes their files.
"""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.checkpoints.layouts.native import MODEL_FILE
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.errors import UserError, visible, why
from maskformer_ext.files import digest_of, read_json

MANIFEST_FILE = "manifest.json"
LATEST = "latest"  # the file that names the newest checkpoint


def find_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None; damaged ones are passed over."""
    root = Path(output_dir) / "checkpoints"
    candidates = by_age(root)
    try:
        named = (root / LATEST).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        named = ""
    candidates.sort(key=lambda path: path.name != named)  # stable: the named one first, then by age
    return next((path for path in candidates if damage(path) is None), None)


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint folder, None if it is complete."""
    try:
        problem = _mismatch(folder)
    except UserError as error:
        problem = str(error)
    except (OSError, ValueError) as error:
        problem = f"{folder / MANIFEST_FILE} cannot be checked ({why(error)})"
    return None if problem is None else visible(problem)


def _mismatch(folder: Path) -> str | None:
    file = folder / MANIFEST_FILE
    manifest = read_json(file, "a list of a checkpoint's files")
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or MODEL_FILE not in files:
        return f"{file} must list its files and {MODEL_FILE} among them"
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(expected, dict):
            return f"{file} names {name!r:.80}, which is no file of a checkpoint"
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != expected.get("bytes") or digest_of(path) != expected.get("sha256"):
            return f"{path} is not what was written"
    return None


def resolve_checkpoint(path: str | Path) -> Path:
    """Return the ``model.safetensors`` that a run's output folder, a checkpoint folder or a file stands for.

    An exported program stands for itself.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.suffix in (".safetensors", *PROGRAM_ENDINGS):
        return path
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist")
    folder: Path | None = path if (path / MODEL_FILE).is_file() else find_checkpoint(path)
    if folder is None and path.name == "checkpoints":
        folder = find_checkpoint(path.parent)
    if folder is None:
        raise UserError(
            f"{path} holds no complete checkpoint: expected the output folder of a run, one of its checkpoints/iter_* "
            f"folders or a {MODEL_FILE} file"
        )
    if (folder / MANIFEST_FILE).exists() and (problem := damage(folder)):
        raise UserError(f"checkpoint {folder} is damaged: {problem}")
    return folder / MODEL_FILE


def by_age(root: Path) -> list[Path]:
    """List checkpoint folders, the last written first."""

    def written(path: Path) -> tuple[int, str]:
        manifest = path / MANIFEST_FILE
        try:
            return manifest.stat().st_mtime_ns, path.name
        except OSError:
            return 0, path.name

    return sorted((path for path in root.glob("iter_*") if path.is_dir()), key=written, reverse=True)
