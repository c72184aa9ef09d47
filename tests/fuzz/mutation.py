"""Change a file at random: its bytes, or the parts of an archive, a PNG file, a study or a saved object."""

import io
import json
import random
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"inf",
    b"99999999999999999999",
    b'"',
    b"\n",
    b",",
    b"\0",
    b"../../../canary",
    b"/dev/zero",
)
VALUES = (
    None,
    -1,
    0,
    10**7,
    10**18,
    10**30,
    0.5,
    float("nan"),
    1e308,
    "",
    "x",
    "../../canary",
    "${oc.env:HOME}",
    [],
    {},
    [[]],
    True,
)
PNG = b"\x89PNG\r\n\x1a\n"
ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n) SELECT k FROM n"


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return another file. Half of the changes keep the form of an archive or of a PNG file, which has checksums."""
    if content[:4] == b"PK\x03\x04" and chance.random() < 0.8:
        return _saved(content, chance) if chance.random() < 0.6 else _archive(content, chance)
    if content[:8] == PNG and chance.random() < 0.6:
        return _png(content, chance)
    if content[:7] == b"SQLite " and chance.random() < 0.8:
        return _database(content, chance)
    if content[:10] == b'{"op_code"' and chance.random() < 0.8:
        return _journal(content, chance)
    if content[:6] in (b"seed: ", b"hydra:", b"- mode", b'{"test') and chance.random() < 0.7:
        return _configuration(content, chance)
    return _bytes(content, other, chance)


def _bytes(content: bytes, other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8, 30))):
        CHANGES[chance.randrange(len(CHANGES))](changed, other, chance)
    return bytes(changed)


def _place(changed: bytearray, chance: random.Random) -> int:
    """Return a place in a file. Headers are more interesting than pixels."""
    return chance.randrange(min(len(changed), chance.choice((64, 512, len(changed) + 1))) or 1)


def _flip(changed: bytearray, other: bytes, chance: random.Random) -> None:
    if changed:
        changed[_place(changed, chance)] ^= 1 << chance.randrange(8)


def _number(changed: bytearray, other: bytes, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    number = (chance.choice(NUMBERS) % 256**size).to_bytes(size, chance.choice(("little", "big")))
    k = _place(changed, chance)
    changed[k : k + size] = number


def _word(changed: bytearray, other: bytes, chance: random.Random) -> None:
    k = _place(changed, chance)
    changed[k : k + chance.randrange(9)] = chance.choice(WORDS)


def _cut(changed: bytearray, other: bytes, chance: random.Random) -> None:
    k = _place(changed, chance)
    del changed[k : k + chance.choice((1, 2, 16, 256, len(changed)))]


def _repeat(changed: bytearray, other: bytes, chance: random.Random) -> None:
    k, size = _place(changed, chance), chance.choice((1, 8, 64, 512))
    changed[k:k] = changed[k : k + size] * chance.choice((1, 2, 20))


def _splice(changed: bytearray, other: bytes, chance: random.Random) -> None:
    k, size = _place(changed, chance), chance.choice((4, 32, 512))
    start = chance.randrange(len(other) or 1)
    changed[k : k + size] = other[start : start + size]


def _noise(changed: bytearray, other: bytes, chance: random.Random) -> None:
    k = _place(changed, chance)
    changed[k : k + 8] = chance.randbytes(chance.randrange(16))


CHANGES = (_flip, _flip, _number, _number, _word, _cut, _repeat, _splice, _noise)


def _png(content: bytes, chance: random.Random) -> bytes:
    """Change the data of chunks, and correct their checksums."""
    chunks, k = [], 8
    while k + 12 <= len(content):
        size = struct.unpack_from(">I", content, k)[0]
        chunks.append((content[k + 4 : k + 8], content[k + 8 : k + 8 + size]))
        k += 12 + size
    for _ in range(chance.choice((1, 1, 3))):
        k = chance.randrange(len(chunks))
        kind, data = chunks[k]
        chunks[k] = (
            chance.choice((kind, kind, kind, b"eXIf", b"iTXt", b"tRNS", b"PLTE")),
            _bytes(data, content, chance),
        )
        if chance.random() < 0.2:
            chance.shuffle(chunks)
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _archive(content: bytes, chance: random.Random) -> bytes:
    """Change entries of an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    chosen = next((k for k, (name, _) in enumerate(entries) if name.endswith("data.pkl")), 0)
    if chance.random() < 0.4:
        chosen = chance.randrange(len(entries))
    name, data = entries[chosen]
    entries[chosen] = (
        chance.choice((name, name, name, "../../canary", "/canary", name.upper())),
        _bytes(data, content, chance),
    )
    compression = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", compression) as new:
        for name, data in entries:
            new.writestr(name, data)
    return file.getvalue()


def _saved(content: bytes, chance: random.Random) -> bytes:
    """Change values of a saved object, at any depth: of its configuration, or of its tensors."""
    saved = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(chance.choice((1, 1, 2, 5))):
        parts = [saved.get(name) for name in ("loops", "callbacks", "optimizer_states", "lr_schedulers", "stands_at")]
        part = chance.choice(parts) if all(parts) else saved.get("config", saved)
        changed_tree(saved if chance.random() < 0.3 or not part else part, chance)
    file = io.BytesIO()
    torch.save(saved, file)
    return file.getvalue()


def _database(content: bytes, chance: random.Random) -> bytes:
    """Change a database of SQLite: values, of any type, of a column or of text as JSON, rows, tables."""
    path = Path("to_change.db")  # in the folder of the test; Python 3.10 opens no database in memory
    path.write_bytes(content)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        tables = [each for (each,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        filled = [each for each in tables if database.execute(f"SELECT 1 FROM {each}").fetchone()]
        for _ in range(chance.choice((1, 1, 2, 4))):
            with suppress(sqlite3.Error, OverflowError):  # a table that is gone, or does not take the value
                _change_row(database, chance.choice(filled), tables, chance)
    return path.read_bytes()


def _change_row(database: sqlite3.Connection, table: str, tables: list[str], chance: random.Random) -> None:
    (row,) = chance.choice(database.execute(f"SELECT rowid FROM {table} LIMIT 100").fetchall() or [(1,)])
    column = chance.choice([each[1] for each in database.execute(f"PRAGMA table_info({table})")])
    found = database.execute(f"SELECT {column} FROM {table} WHERE rowid = {row}").fetchone() or (0,)
    how = chance.random()
    if how < 0.05:
        database.execute(f"DROP TABLE {chance.choice(tables)}")
    elif how < 0.1:
        database.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_x")
    elif how < 0.15:
        database.execute(f"DROP TABLE {table}")
        database.execute(f"CREATE VIEW {table} AS {ENDLESS}")
    elif how < 0.2:
        database.execute(f"DELETE FROM {table} WHERE rowid = {row}")
    else:
        new = _changed_text(found[0], chance) if isinstance(found[0], str) else _near(found[0], chance)
        if chance.random() < 0.5:
            new = chance.choice((*VALUES, b"\xff\0", "9" * 500))
        new = json.dumps(new) if isinstance(new, dict | list) else new
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = {row}", [new])


def _journal(content: bytes, chance: random.Random) -> bytes:
    """Change lines of JSON."""
    lines = content.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 2, 4))):
        k = chance.randrange(len(lines))
        how = chance.random()
        if how < 0.7:
            lines[k] = (_changed_text(lines[k].decode(), chance) + "\n").encode()
        elif how < 0.8:
            lines[k] = _bytes(lines[k], content, chance)
        elif how < 0.9:
            del lines[k : k + len(lines) - 1]
        else:
            lines.insert(k, chance.choice(lines))
    return b"".join(lines)


def _configuration(content: bytes, chance: random.Random) -> bytes:
    """Change values of YAML, of which JSON is a part, at any depth; some are written with references and tags."""
    tree = yaml.safe_load(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        changed_tree(tree, chance)
    text = json.dumps(tree) if content[:1] == b"{" else yaml.safe_dump(tree)
    if chance.random() < 0.2:
        text += chance.choice(("a: &x [1]\nb: *x\n", "c: !!python/object/apply:os.system [touch canary]\n", "? [1]\n"))
    return text.encode()


def _changed_text(text: str, chance: random.Random) -> str:
    """Change JSON at any depth, also JSON within its texts, or any other text."""
    try:
        tree = json.loads(text)
    except ValueError:
        return str(_near(text, chance))
    if not isinstance(tree, dict | list):
        return json.dumps(chance.choice((_near(tree, chance), *VALUES)))
    inside = [key for key in tree if isinstance(tree, dict) and str(tree[key])[:1] in ("{", "[")]
    if inside and chance.random() < 0.5:
        key = chance.choice(inside)
        if isinstance(tree[key], str):
            tree[key] = _changed_text(tree[key], chance)
        else:
            changed_tree(tree[key], chance)
    else:
        changed_tree(tree, chance)
    return json.dumps(tree)


def changed_tree(tree: Any, chance: random.Random) -> None:
    """Change a value somewhere below a dictionary: replace, remove or add it."""
    node, above = tree, None
    while isinstance(node, dict | list) and node and (above is None or chance.random() < 0.8):
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        above, node = node, node[key]
    if above is None:
        return
    how: Callable[[], Any] = chance.choice((lambda: chance.choice(VALUES), lambda: _near(node, chance)))
    if isinstance(above, dict) and chance.random() < 0.2:
        above.pop(key)
    elif isinstance(above, dict) and chance.random() < 0.2:
        above[chance.choice(("_target_", "_args_", "_partial_", "_convert_", "_recursive_", "extra"))] = how()
    else:
        above[key] = how()


def _near(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool | type(None)):
        return not value
    if isinstance(value, int | float):
        return chance.choice((value + 1, value * 2, -value, value / 2, value * 10**6, [value], str(value)))
    if isinstance(value, str):
        return chance.choice((value + "x", value[:-1], value.upper(), f"{value}.{value}", value.rpartition(".")[0]))
    if isinstance(value, torch.Tensor):
        changes = (
            lambda: value[..., :0],
            lambda: value.double(),
            lambda: value.bool(),
            lambda: value.new_zeros(1).expand(10**7, 10**7),
            lambda: value.new_empty(10**7, 10**7, device="meta"),
            lambda: value * float("nan"),
            lambda: value.flatten(),
            lambda: value.tolist(),
        )
        return chance.choice(changes)()
    return [value]
