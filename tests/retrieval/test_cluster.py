"""kdlib.retrieval.cluster on a local Ray with two workers, against one process."""

import io
import os
import signal
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdlib.retrieval import build_index, open_index
from kdlib.retrieval.embeddings import read_manifest
from kdlib.types import Embeddings
from tests.retrieval.test_index import ColourEncoder, unit_rows

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")

from kdlib.retrieval.cluster import build_from_shards, embed_shards  # noqa: E402

COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)  # five shards of seven pictures


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20,
             logging_level="error", log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}})  # of the encoder
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


class LoggedEncoder(ColourEncoder):
    """Writes down who encodes what; kills its process once, in the midst of its second call, if there is `trap`."""

    def __init__(self, folder):
        self.folder, self.calls = folder, 0

    def encode_images(self, images):
        self.calls += 1
        if self.calls == 2 and (self.folder / "trap").is_file():
            (self.folder / "trap").rename(self.folder / "sprung")
            os.kill(os.getpid(), signal.SIGKILL)
        with open(self.folder / "log", "a") as file:
            file.write(f"{os.getpid()} {len(images)}\n")
        return super().encode_images(images)


class WaitingEncoder(LoggedEncoder):
    """Goes on when another worker has come, too: on a busy machine the first would have done all before that."""

    def encode_images(self, images):
        encoded = super().encode_images(images)
        for _ in range(1000):
            if len(workers(self.folder)) > 1:
                break
            time.sleep(0.1)
        return encoded


def workers(folder):
    return {line.split()[0] for line in (folder / "log").read_text().splitlines()}


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), tuple(map(int, colour))).save(file, "png")
    return file.getvalue()


def write_tar(path, rows):
    with tarfile.open(path, "w") as archive:
        for id, content in rows:
            for name, data in ((f"{id}.png", content), (f"{id}.txt", b"a caption")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    """Four parquet shards and a webdataset one; a broken picture in the third."""
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"part-{n}.{'tar' if n == 4 else 'parquet'}" for n in range(5)]
    for n, path in enumerate(paths):
        rows = [(f"{n}/{m}", png(colour)) for m, colour in enumerate(COLOURS[n])]
        if n == 2:
            rows.append(("2/broken", b"no picture"))
        write_tar(path, rows) if n == 4 else pd.DataFrame(rows, columns=["id", "picture"]).to_parquet(path)
    return paths


@pytest.fixture
def one_process(tmp_path):
    """The index of the same pictures without shards and without Ray."""
    pictures = [Image.new("RGB", (6, 5), tuple(map(int, colour))) for colour in COLOURS.reshape(-1, 3)]
    vectors = ColourEncoder().encode_images(pictures).astype(np.float16)
    ids = np.array([f"{n}/{m}" for n in range(5) for m in range(7)])
    build_index(Embeddings(vectors, ids, "enc-1"), ColourEncoder()).save(tmp_path / "alone")
    return tmp_path / "alone"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_workers_write_what_one_process_writes(tmp_path, shards, one_process):
    embed_shards(shards, partial(WaitingEncoder, tmp_path), tmp_path / "vectors", num_workers=2)
    build_from_shards(tmp_path / "vectors", tmp_path / "index", "enc-1")
    assert contents(tmp_path / "index") == contents(one_process)
    assert len(workers(tmp_path)) == 2, "both workers worked"
    skipped = pd.read_csv(tmp_path / "vectors" / "part-2.skipped.csv")
    assert skipped.path.tolist() == ["2/broken"] and "no picture of a kind that is read" in skipped.reason[0]


def test_a_worker_killed_midway_loses_nothing(tmp_path, shards, one_process):
    (tmp_path / "trap").touch()
    embed_shards(shards, partial(LoggedEncoder, tmp_path), tmp_path / "vectors", num_workers=1)
    assert (tmp_path / "sprung").is_file(), "no worker was killed"
    assert len((tmp_path / "log").read_text().splitlines()) == 5, "each shard is embedded once, the killed one as well"
    build_from_shards(tmp_path / "vectors", tmp_path / "index", "enc-1")
    assert contents(tmp_path / "index") == contents(one_process)


def test_finished_shards_are_not_embedded_again_and_bad_ones_stop_no_other(tmp_path, shards):
    pd.DataFrame({"id": ["x"], "image": [b""]}).to_parquet(shards[1])
    shards[4].write_bytes(shards[4].read_bytes()[:700])
    encoder = partial(LoggedEncoder, tmp_path)
    with pytest.raises(ValueError, match="2 of 5 shards .*part-1.parquet: it has no column picture.*; .*part-4.tar: "):
        embed_shards(shards, encoder, tmp_path / "vectors", num_workers=1)
    before = contents(tmp_path / "vectors")
    assert {name for name in before if name.endswith("parquet")} == {f"part-{n}.parquet" for n in (0, 2, 3)}
    embed_shards([shards[0], shards[2], shards[3]], encoder, tmp_path / "vectors", num_workers=1)
    assert contents(tmp_path / "vectors") == before and len((tmp_path / "log").read_text().splitlines()) == 3


def save_vectors(folder, embeddings, first_rows):
    """Shards as `embed_shards` writes them; the last first_row is the end."""
    folder.mkdir()
    for n, (start, end) in enumerate(zip(first_rows, first_rows[1:], strict=False)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors[start:end].ravel()),
                                                   embeddings.vectors.shape[1])
        table = pa.table({"id": embeddings.ids[start:end].tolist(), "vector": column})
        pq.write_table(table.replace_schema_metadata({"encoder_id": embeddings.encoder_id}), folder / f"{n}.parquet")


@pytest.mark.parametrize("factory", ["IVF16,Flat", "OPQ4_8,IVF16,PQ4x8"])
def test_shards_filled_by_workers_and_merged_find_what_one_process_finds(tmp_path, factory):
    embeddings = Embeddings(unit_rows(0, (2000, 8), np.float16), np.array([f"p{n:04}" for n in range(2000)]), "enc-1")
    save_vectors(tmp_path / "vectors", embeddings, [0, 1, 700, 1300, 2000])
    build_from_shards(tmp_path / "vectors", tmp_path / "index", "enc-1", factory=factory)
    merged, alone = open_index(tmp_path / "index", "enc-1"), build_index(embeddings, ColourEncoder(), factory=factory)
    assert (merged.ids == alone.ids).all() and (merged.embeddings.vectors == embeddings.vectors).all()
    assert read_manifest(tmp_path / "index")["structure"] == alone._manifest()["structure"]
    for index in (merged, alone):
        index.num_cells = 2
    ours, theirs = (index.search(unit_rows(1, (50, 8)), 10) for index in (merged, alone))
    assert (ours.ids == theirs.ids).all() and (ours.scores == theirs.scores).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "vectors"]


def test_what_is_refused(tmp_path, shards):
    embed = partial(embed_shards, make_encoder=ColourEncoder, out=tmp_path / "vectors", num_workers=1)
    for given, kind, message in [([], ValueError, "there are no shards"), ([tmp_path / "a.zip"], ValueError, "end in"),
                                 ([tmp_path / "no.tar"], FileNotFoundError, "there is no shard"),
                                 ([shards[0], shards[0]], ValueError, "have one name")]:
        with pytest.raises(kind, match=message):
            embed(given)
    with pytest.raises(ValueError, match="holds no shards of vectors"):
        build_from_shards(tmp_path / "pictures" / "absent", tmp_path / "index", "enc-1")
    with pytest.raises(ValueError, match="part-0.parquet is no shard of vectors"):
        build_from_shards(tmp_path / "pictures", tmp_path / "index", "enc-1")
    twice = Embeddings(unit_rows(0, (6, 5), np.float16), np.array(list("abcdeb")), "enc-1")
    save_vectors(tmp_path / "twice", twice, [0, 3, 6])
    with pytest.raises(ValueError, match="'b' occurs 2 times"):
        build_from_shards(tmp_path / "twice", tmp_path / "index", "enc-1")
    with pytest.raises(ValueError, match="built by encoder enc-1, but this model uses encoder enc-2"):
        build_from_shards(tmp_path / "twice", tmp_path / "index", "enc-2")
    save_vectors(tmp_path / "vectors", Embeddings(twice.vectors, twice.ids, "enc-9"), [0, 6])
    (tmp_path / "vectors" / "0.parquet").rename(tmp_path / "vectors" / "part-0.parquet")
    with pytest.raises(ValueError, match="built by encoder enc-9, but this model uses encoder enc-1"):
        embed([shards[0]])
    assert not (tmp_path / "index").exists()
