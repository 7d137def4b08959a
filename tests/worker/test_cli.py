"""`impasto stylize`, `upscale`, `styles` and the rest, run as commands on a small zoo."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path, PurePath

import numpy as np
import pytest

from tests.pictures import decode, draw_photo, encode, encode_heic
from tests.redis_server import RedisServer, free_port
from tests.service.support import huge_png
from tests.worker.command import ROOT, Command
from tests.worker.running import Client, running_worker
from worker import targets
from worker.errors import CommandError
from worker.local_records import RECORDS_NAME
from worker.sources import find_sources

BROKEN = encode(draw_photo(64, 48), "JPEG")[:700]


@pytest.fixture
def impasto(tmp_path: Path, small_zoo: Path) -> Command:
    return Command(tmp_path, small_zoo)


def put(folder: Path, *names: str, width: int = 64, height: int = 48) -> None:
    """Photos of those names, each in the format that its ending says."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_photo(width, height).save(path)


def results(impasto: Command, folder: str) -> set[str]:
    """Everything in a folder but the records of what results were made of."""
    return {name for name in impasto.files(folder) if PurePath(name).name != RECORDS_NAME}


def change(path: Path, older_s: float = 0, angle: int = 180) -> None:
    """Puts another photo in the place of one."""
    draw_photo(64, 48).rotate(angle).save(path)
    moment = path.stat().st_mtime_ns - round(older_s * 1e9)
    os.utime(path, ns=(moment, moment))


def test_a_folder_is_painted_to_the_bottom_and_keeps_its_tree(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "photos/trip/day 1/b.PNG", "photos/c.webp", "photos/.thumbnails/a.jpg")
    (impasto.folder / "photos/notes.txt").write_text("no picture")
    (impasto.folder / "photos/d.heic").write_bytes(encode_heic(draw_photo(32, 40)))
    put(impasto.folder, "photos/e.bmp", width=20, height=100)

    ran = impasto.run("stylize", "photos", "--style", "red", "-o", "out")

    assert ran.status == 0, ran.said
    assert results(impasto, "out") == {"a.jpg", "trip/day 1/b.PNG", "c.webp", "d.heic.jpg", "e.bmp.png"}
    assert impasto.picture("out/trip/day 1/b.PNG").format == "PNG"
    assert impasto.picture("out/d.heic.jpg").size == (32, 40)
    assert "5 pictures written to out." in ran.said
    painted = np.asarray(impasto.picture("out/trip/day 1/b.PNG"))
    assert not np.array_equal(painted, np.asarray(impasto.picture("photos/trip/day 1/b.PNG")))


def test_files_folders_and_patterns_together_each_once(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "more.jpg", "one.png", "two.png", "odd [1].png")

    ran = impasto.run("upscale", "photos", "more.jpg", "*.png", "one.png", "odd [1].png", "--factor", "2", "-o", "big")

    assert ran.status == 0, ran.said
    assert results(impasto, "big") == {"a.jpg", "more.jpg", "one.png", "two.png", "odd [1].png"}
    assert impasto.picture("big/one.png").size == (128, 96)


def test_what_is_done_is_skipped_unless_it_is_to_be_overwritten(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "photos/b.jpg")
    (impasto.folder / "out").mkdir()
    (impasto.folder / "out/a.jpg").write_bytes(b"made before")
    (impasto.folder / "out/b.jpg").touch()  # what a full disk leaves of a file

    ran = impasto.run("stylize", "photos", "-s", "red", "-o", "out")

    assert (impasto.folder / "out/a.jpg").read_bytes() == b"made before"
    assert impasto.picture("out/b.jpg").size == (64, 48)
    assert "1 picture written to out, 1 there already" in ran.said

    assert impasto.run("stylize", "photos", "-s", "red", "-o", "out", "--overwrite").status == 0
    assert impasto.picture("out/a.jpg").size == (64, 48)


def test_nothing_is_loaded_where_all_is_done(impasto: Command) -> None:
    put(impasto.folder, "a.jpg")
    shutil.copytree(impasto.folder, impasto.folder / "out", ignore=shutil.ignore_patterns("out"))

    (impasto.folder / "nothing").mkdir()

    ran = impasto.run("stylize", "a.jpg", "-s", "red", "-o", "out", "--zoo", "nothing")

    assert ran.status == 0
    assert "1 there already" in ran.said


def test_broken_files_are_named_at_the_end_while_the_rest_is_done(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "photos/z.jpg")
    put(impasto.folder, "photos/tiny.png", width=8, height=64)
    (impasto.folder / "photos/broken.jpg").write_bytes(BROKEN)
    (impasto.folder / "photos/text.png").write_text("no picture")
    frames = [draw_photo(32, 32), draw_photo(32, 32).rotate(90)]
    frames[0].save(impasto.folder / "photos/moving.gif", save_all=True, append_images=frames[1:])

    ran = impasto.run("stylize", "photos", "missing.jpg", "no*.jpg", "-s", "red", "-o", "out")

    assert ran.status == 1
    assert results(impasto, "out") == {"a.jpg", "z.jpg"}
    lines = ran.said.splitlines()
    assert lines[:2] == ["2 pictures written to out.", "6 pictures failed:"]
    named = {line.split(":")[0].strip() for line in lines[2:]}
    assert named == {
        "photos/broken.jpg", "photos/text.png", "photos/tiny.png", "photos/moving.gif", "missing.jpg", "no*.jpg"
    }  # fmt: skip
    assert "at least 16" in ran.said
    assert "animation" in ran.said


def test_what_is_no_file_stops_nothing(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg")
    (impasto.folder / "photos/itself.jpg").symlink_to("itself.jpg")
    (impasto.folder / "photos/nowhere.jpg").symlink_to("gone.jpg")
    os.mkfifo(impasto.folder / "photos/pipe.jpg")
    (impasto.folder / "loop.jpg").symlink_to("loop.jpg")

    ran = impasto.run("stylize", "photos", "loop.jpg", "--style", "red", "-o", "out")

    assert ran.status == 1
    assert results(impasto, "out") == {"a.jpg"}
    assert all(f"photos/{name}.jpg: It is no file." in ran.said for name in ("itself", "nowhere", "pipe"))
    assert "loop.jpg: There is no such file" in ran.said


def test_a_photo_is_never_written_over(impasto: Command) -> None:
    put(impasto.folder, "a.jpg", "b.png")
    before = {path: path.read_bytes() for path in impasto.folder.glob("*.*")}

    ran = impasto.run("stylize", "a.jpg", "b.png", "-s", "red", "-o", ".", "--format", "jpeg", "--overwrite")
    itself = impasto.run("stylize", "a.jpg", "-s", "red", "-o", "a.jpg", "--overwrite")
    folder = impasto.run("stylize", ".", "-s", "red", "-o", ".", "--overwrite")

    assert (ran.status, itself.status, folder.status) == (1, 1, 2)
    assert "a.jpg: Its result would be written over a.jpg" in ran.said
    assert "choose another" in itself.said
    assert "choose another folder" in folder.said
    assert {path: path.read_bytes() for path in before} == before
    assert results(impasto, ".") == {"a.jpg", "b.png", "b.png.jpg"}


def test_a_photo_is_known_by_any_path(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg")
    before = (impasto.folder / "photos/a.jpg").read_bytes()
    # Another name of one file, as on a disk that does not tell a from A.
    (impasto.folder / "out").mkdir()
    (impasto.folder / "out/a.jpg").hardlink_to(impasto.folder / "photos/a.jpg")

    ran = impasto.run("stylize", "photos", "-s", "red", "-o", "out", "--overwrite")

    assert ran.status == 1
    assert "a photo given" in ran.said
    assert (impasto.folder / "photos/a.jpg").read_bytes() == before


@pytest.mark.parametrize("inputs", ["photos", "photos/*"])
def test_results_inside_the_photos_folder_are_not_painted_again(impasto: Command, inputs: str) -> None:
    put(impasto.folder, "photos/a.jpg")
    for _ in range(2):
        ran = impasto.run("stylize", inputs, "-s", "red", "-o", "photos/out")
        assert ran.status == 0, ran.said
    assert results(impasto, "photos/out") == {"a.jpg"}


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_loaded(impasto: Command) -> None:
    put(impasto.folder, "a.jpg")
    ran = impasto.run("stylize", "a.jpg", "-s", "red", "-o", "/proc/painted", "--zoo", ".")
    assert ran.status == 1
    assert ran.said.startswith("impasto: /proc/painted cannot be made")


def test_photos_that_differ_in_their_endings_alone_get_names_of_their_own(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "photos/a.JPG", "photos/a.jpeg", "photos/a.jfif", "photos/a.png")
    (impasto.folder / "photos/a.heic").write_bytes(encode_heic(draw_photo(32, 40)))
    assert impasto.run("stylize", "photos", "-s", "red", "-o", "out").status == 0
    assert results(impasto, "out") == {"a.jpg", "a.JPG", "a.jpeg", "a.jfif.jpg", "a.png", "a.heic.jpg"}
    assert impasto.run("stylize", "photos", "-s", "red", "-o", "webp", "--format", "webp", "-q").said == ""
    assert results(impasto, "webp") == {f"{path.name}.webp" for path in (impasto.folder / "photos").iterdir()}


@pytest.mark.parametrize("inputs", ["photos", "photos/a.bmp"])
def test_a_name_never_changes_for_what_lies_beside_it(impasto: Command, inputs: str) -> None:
    put(impasto.folder, "photos/a.bmp")
    assert impasto.run("stylize", inputs, "-s", "red", "-o", "out").status == 0
    change(impasto.folder / "photos/a.png")

    ran = impasto.run("stylize", "photos", "-s", "red", "-o", "out")

    assert "1 picture written to out, 1 there already" in ran.said
    assert results(impasto, "out") == {"a.bmp.png", "a.png"}
    assert impasto.picture("out/a.png") != impasto.picture("out/a.bmp.png")


def test_two_photos_that_would_become_one_file_are_told_before_anything_is_loaded(impasto: Command) -> None:
    put(impasto.folder, "photos/a.bmp", "photos/a.bmp.png", "photos/b.png")
    ran = impasto.run("stylize", "photos", "-s", "red", "-o", "out", "--zoo", ".")
    assert ran.status == 2
    assert "photos/a.bmp and photos/a.bmp.png would both become out/a.bmp.png: rename one" in ran.said
    assert results(impasto, "out") == set()


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.JPG"), ("Trip/a.png", "trip/a.png"), ("Caf\u00e9.png", "Cafe\u0301.png")]
)
def test_the_disk_decides_which_names_are_one(
    tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, *(f"photos/{name}" for name in names))
    sources = find_sources([str(tmp_path / "photos")], None).sources

    planned, failures = targets.plan_targets(sources, tmp_path / "out", None)
    assert {str(commission.target.relative_to(tmp_path / "out")) for commission in planned} == set(names)
    assert failures == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]  # nothing is left of the trial

    # As on a disk of macOS: none that takes these names for one can be had here.
    monkeypatch.setattr("os.path.lexists", lambda _: True)
    with pytest.raises(CommandError, match="would both become"):
        targets.plan_targets(sources, tmp_path / "out", None)


def test_a_photo_that_was_changed_or_replaced_is_done_again(impasto: Command) -> None:
    put(impasto.folder, "photos/a.png", "photos/b.png", "photos/c.png")
    command = ("stylize", "photos", "-s", "red", "-o", "out")
    assert impasto.run(*command).status == 0
    before = impasto.picture("out/c.png")
    change(impasto.folder / "photos/a.png")
    change(impasto.folder / "photos/b.png", older_s=1e6)  # moved there from elsewhere, with its time

    ran = impasto.run(*command)

    assert (ran.status, ran.said.split(" (")[0]) == (0, "2 pictures written to out, 1 there already")
    assert impasto.picture("out/a.png") == impasto.picture("out/b.png") != before
    assert "0 pictures written to out, 3 there already" in impasto.run(*command).said


def test_results_of_other_photos_are_neither_kept_as_done_nor_lost(impasto: Command) -> None:
    put(impasto.folder, "2023/IMG_1.jpg", "2023/IMG_2.jpg", "2024/IMG_3.jpg")
    assert impasto.run("stylize", "2023", "-s", "red", "-o", "year").status == 0
    before = (impasto.folder / "year/IMG_1.jpg").read_bytes()
    for name in ("IMG_1.jpg", "IMG_2.jpg"):
        change(impasto.folder / "2024" / name, older_s=1e6)

    ran = impasto.run("stylize", "2024", "-s", "red", "-o", "year", "--zoo", ".")

    assert ran.status == 2
    assert ran.said == (
        "impasto: year/IMG_1.jpg and 1 more are there already, the first made of another photo: "
        "choose another output, or add --overwrite to replace them.\n"
    )
    assert (impasto.folder / "year/IMG_1.jpg").read_bytes() == before
    assert results(impasto, "year") == {"IMG_1.jpg", "IMG_2.jpg"}
    assert impasto.run("stylize", "2024", "-s", "red", "-o", "year", "--overwrite").status == 0
    assert (impasto.folder / "year/IMG_1.jpg").read_bytes() != before
    assert "0 pictures written to year, 3 there" in impasto.run("stylize", "2024", "-s", "red", "-o", "year").said


def test_results_with_other_settings_are_in_the_way(impasto: Command) -> None:
    put(impasto.folder, "a.jpg", "b.png")
    red = ("stylize", "a.jpg", "-s", "red", "-o", "out")
    assert impasto.run(*red).status == 0
    assert impasto.run("stylize", "b.png", "-s", "red", "-o", "b.webp").status == 0
    others = [
        ("stylize", "a.jpg", "-s", "blue", "-o", "out"),
        ("stylize", "b.png", "-s", "blue", "-o", "b.webp"),
        (*red, "--strength", "0.5"),
        (*red, "--preserve-color"),
        (*red, "--size", "32"),
        (*red, "--quality", "50"),
        ("upscale", "a.jpg", "-f", "2", "-o", "out"),
    ]
    for other in others:
        ran = impasto.run(*other)
        assert (ran.status, "is there already, made with other settings" in ran.said) == (2, True), other
    # The same in other words.
    assert "1 there already" in impasto.run(*red, "--quality", "90", "--strength", "1", "-s", "red:2").said


def test_photos_and_results_may_be_moved(impasto: Command) -> None:
    put(impasto.folder, "photos/a.jpg", "photos/trip/b.jpg")
    assert impasto.run("stylize", "photos", "-s", "red", "-o", "out").status == 0
    (impasto.folder / "photos").rename(impasto.folder / "archive")
    (impasto.folder / "out").rename(impasto.folder / "painted")
    assert "2 there already" in impasto.run("stylize", "archive", "-s", "red", "-o", "painted").said
    assert "2 there already" not in impasto.run("stylize", "archive", "-s", "blue", "-o", "painted").said
    for records in (impasto.folder / "painted").rglob(RECORDS_NAME):
        assert "photos" not in records.read_text()  # no path is told to whom the results are given


@pytest.mark.parametrize("records", [None, b"", b'\xff{"result": 1}\n[]\n{"result": "a.jpg"}\n"half of a li'])
def test_without_records_names_and_times_decide(impasto: Command, records: bytes | None) -> None:
    put(impasto.folder, "photos/a.jpg")
    command = ("stylize", "photos", "-s", "red", "-o", "out")
    assert impasto.run(*command).status == 0
    written = impasto.folder / "out" / RECORDS_NAME
    written.unlink()
    if records is not None:
        written.write_bytes(records)

    assert "0 pictures written to out, 1 there already" in impasto.run(*command).said
    before = (impasto.folder / "out/a.jpg").read_bytes()
    change(impasto.folder / "photos/a.jpg", older_s=-100)
    ran = impasto.run(*command)
    assert ran.status == 2
    assert "out/a.jpg is there already, older than its photo" in ran.said
    assert (impasto.folder / "out/a.jpg").read_bytes() == before  # it may be anything
    assert impasto.run(*command, "--overwrite").status == 0
    assert "0 pictures written to out, 1 there already" in impasto.run(*command).said  # its record is read again


def test_a_result_that_was_worked_on_is_kept(impasto: Command) -> None:
    put(impasto.folder, "a.png")
    assert impasto.run("stylize", "a.png", "-s", "red", "-o", "out").status == 0
    put(impasto.folder, "out/a.png", width=32)
    assert "1 there already" in impasto.run("stylize", "a.png", "-s", "blue", "-o", "out").said
    assert impasto.picture("out/a.png").size == (32, 48)


def test_two_runs_into_one_folder_leave_whole_files_and_records(impasto: Command) -> None:
    put(impasto.folder, *(f"{folder}/{folder}{number}.png" for folder in ("x", "y") for number in range(40)))
    commands = [("stylize", folder, "-s", "red", "-o", "out") for folder in ("x", "y", "y")]
    running = [impasto.start(*command) for command in commands]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert len(results(impasto, "out")) == 80
    lines = filter(None, (impasto.folder / "out" / RECORDS_NAME).read_text().splitlines())
    assert {json.loads(line)["result"] for line in lines} == results(impasto, "out")
    assert all(impasto.picture(f"out/{name}").size == (64, 48) for name in results(impasto, "out"))
    assert "80 there already" in impasto.run("stylize", "x/*", "y/*", "-s", "red", "-o", "out").said


def test_what_of_a_folder_is_left_out_is_told(impasto: Command) -> None:
    put(impasto.folder, "photos/ok.jpg")
    others = ["a.dng", "trip/b.cr2", "trip/c.CR2", "p.jp2", "notes.txt", "ok.xmp", ".DS_Store", "Thumbs.db", "._ok.dng"]
    (impasto.folder / "photos/trip").mkdir()
    for name in others:
        (impasto.folder / "photos" / name).write_bytes(b"raw")
    command = ("stylize", "photos", "photos/trip", "-s", "red", "-o", "out")

    assert impasto.run(*command).said == "1 picture written to out; 4 other files left out (.cr2, .dng, .jp2).\n"
    assert impasto.run(*command, "-q").said == ""
    for name in ("a.mov", "a.mp4", "a.arw", "a.nef", "a.What came after the dot", "Makefile"):
        (impasto.folder / "photos" / name).write_bytes(b"raw")
    assert "10 other files left out (.arw, .cr2, .dng, .jp2, .mov and others).\n" in impasto.run(*command).said
    nothing = impasto.run("stylize", "photos/trip", "-s", "red", "-o", "none")
    assert (nothing.status, nothing.said) == (
        1, "impasto: There are no pictures in photos/trip; 2 other files left out (.cr2).\n"
    )  # fmt: skip


def test_the_first_page_of_a_tiff_is_painted(impasto: Command) -> None:
    pages = [draw_photo(64, 48), draw_photo(32, 32)]
    pages[0].save(impasto.folder / "scan.tif", save_all=True, append_images=pages[1:])
    assert impasto.run("stylize", "scan.tif", "-s", "red", "-o", "out").status == 0
    assert impasto.picture("out/scan.tif.png").size == (64, 48)


def test_several_folders_keep_their_names(impasto: Command) -> None:
    put(impasto.folder, "2023/a.jpg", "2024/a.jpg", "x/b.png", "y/b.png")
    ran = impasto.run("stylize", "2023", "2024/", "x/b.png", "y/b.png", "-s", "red", "-o", "out")
    assert results(impasto, "out") == {"2023/a.jpg", "2024/a.jpg", "x/b.png", "y/b.png"}, ran.said


def test_what_has_one_name_is_told_apart_by_the_folders_above(impasto: Command) -> None:
    put(impasto.folder, "2023/trip/a.jpg", "2024/trip/a.jpg", "2024/home/a.jpg")
    (impasto.folder / "old").symlink_to("2023/trip")

    folders = impasto.run("stylize", "2023/trip", "2024/trip", "old", "-s", "red", "-o", "folders")
    pattern = impasto.run("stylize", "2024/**/*.jpg", "-s", "red", "-o", "pattern")

    assert (folders.status, pattern.status) == (0, 0), folders.said + pattern.said
    # A file that two folders lead to is painted once.
    assert results(impasto, "folders") == {"2023/trip/a.jpg", "2024/trip/a.jpg"}
    assert results(impasto, "pattern") == {"trip/a.jpg", "home/a.jpg"}


def test_pipes(impasto: Command) -> None:
    photo = draw_photo(64, 48)
    painted = impasto.run("stylize", "-", "-s", "red:0.7,blue:0.3", stdin=encode(photo, "WEBP"))
    assert painted.status == 0, painted.said
    assert painted.said == ""
    assert (decode(painted.stdout).format, decode(painted.stdout).size) == ("WEBP", (64, 48))

    enlarged = impasto.run("upscale", "-", "-f", "2", "-o", "-", "--format", "jpg", stdin=painted.stdout)
    assert (decode(enlarged.stdout).format, decode(enlarged.stdout).size) == ("JPEG", (128, 96))

    put(impasto.folder, "a.png")
    to_stdout = impasto.run("stylize", "a.png", "-s", "red", "-o", "-")
    assert decode(to_stdout.stdout).format == "PNG"
    to_file = impasto.run("stylize", "-", "-s", "red", "-o", "new/b.webp", stdin=encode(photo))
    assert to_file.status == 0, to_file.said
    assert impasto.picture("new/b.webp").format == "WEBP"


def test_a_pipe_that_brings_no_picture_gets_a_sentence_and_none_back(impasto: Command) -> None:
    for stdin, word in ((b"", "empty"), (b"text", "no picture"), (BROKEN, "truncated")):
        ran = impasto.run("stylize", "-", "-s", "red", stdin=stdin)
        assert (ran.status, ran.stdout) == (1, b"")
        assert word in ran.said
        assert len(ran.said.splitlines()) == 1


def test_strength_colour_size_format_and_quality(impasto: Command) -> None:
    put(impasto.folder, "a.png", width=100, height=60)
    photo = np.asarray(impasto.picture("a.png")).astype(int)

    impasto.run("stylize", "a.png", "-s", "red", "-o", "same.png", "--strength", "0")
    assert np.array_equal(np.asarray(impasto.picture("same.png")), photo)

    impasto.run("stylize", "a.png", "-s", "red", "-o", "kept.png", "--preserve-color")
    kept = np.asarray(impasto.picture("kept.png")).astype(int)
    unclipped = ((kept > 0) & (kept < 255)).all(axis=2)
    differences = (kept - photo)[unclipped]
    assert np.abs(differences - differences.mean(axis=1, keepdims=True)).max() <= 1
    assert np.abs(differences).mean() > 1

    impasto.run("stylize", "a.png", "-s", "red", "-o", "good.jpg", "--quality", "95", "--size", "50")
    impasto.run("stylize", "a.png", "-s", "red", "-o", "poor.jpg", "--quality", "5", "--size", "50")
    assert impasto.picture("good.jpg").size == (50, 30)
    assert (impasto.folder / "poor.jpg").stat().st_size < (impasto.folder / "good.jpg").stat().st_size


def test_equal_pictures_come_out_equal_alone_and_in_a_batch(impasto: Command) -> None:
    put(impasto.folder, *(f"photos/{number}.png" for number in range(5)), width=96, height=64)
    put(impasto.folder, "photos/tall.png", width=64, height=96)
    assert impasto.run("stylize", "photos", "-s", "red", "-o", "out").status == 0
    assert impasto.run("stylize", "photos/3.png", "-s", "red", "-o", "alone").status == 0
    alone = np.asarray(impasto.picture("alone/3.png")).astype(int)
    for number in range(5):
        together = np.asarray(impasto.picture(f"out/{number}.png")).astype(int)
        assert np.abs(together - alone).max() <= 1


def test_a_picture_comes_out_as_the_worker_makes_it(impasto: Command, small_zoo: Path) -> None:
    photo = encode(draw_photo(100, 70), "JPEG")
    redis = RedisServer()
    redis.start()
    try:
        with redis.connect() as connection, running_worker(redis.url, small_zoo):
            client = Client(connection)
            jobs = [
                client.stylize(photo, styles={"red": 0.5, "blue": 0.5}, strength=0.8, size=64),
                client.upscale(photo, factor=2),
            ]
            answers = [client.wait(job)[1] for job in jobs]
    finally:
        redis.stop()
    how = ["-s", "red,blue", "--strength", "0.8", "--size", "64", "--format", "png"]
    styled = impasto.run("stylize", "-", *how, stdin=photo)
    upscaled = impasto.run("upscale", "-", "-f", "2", "--format", "png", stdin=photo)
    assert answers == [styled.stdout, upscaled.stdout]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["stylize", "a.png", "-s", "reed", "-o", "out"], 2, ["no style 'reed'", "did you mean red?"]),
        (["stylize", "a.png", "-s", "zzz", "-o", "out"], 2, ["`impasto styles`"]),
        (["stylize", "a.png", "-s", "red:x", "-o", "out"], 2, ["'x'", "not a number", "impasto stylize --help"]),
        (["stylize", "a.png", "-o", "out"], 2, ["--style"]),
        (["stylize", "a.png", "-s", "red"], 2, ["-o"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--strength", "2"], 2, ["--strength"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--strength", "nan"], 2, ["--strength"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--format", "gif"], 2, ["jpeg, png, webp, avif"]),
        (["stylize", "a.png", "-s", "red", "-o", "out.bmp"], 2, [".png"]),
        (["stylize", "a.png", "-s", "red", "-o", "out.png", "--format", "jpeg"], 2, ["PNG", "jpeg"]),
        (["stylize", "a.png", "b.png", "-s", "red", "-o", "out.png"], 2, ["2 pictures", "folder"]),
        (["stylize", "a.png", "b.png", "-s", "red", "-o", "-"], 2, ["one picture"]),
        (["stylize", "a.png", "-s", "red", "-o", "b.png/out"], 2, ["b.png is a file"]),
        (["stylize", "-", "a.png", "-s", "red", "-o", "out"], 2, ["stands alone"]),
        (["stylize", "empty", "-s", "red", "-o", "out"], 1, ["no pictures in empty"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--zoo", "nowhere"], 2, ["nowhere", "--zoo"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--zoo", "empty"], 1, ["the zoo holds none"]),
        (["stylize", "a.png", "-s", "red", "-o", "out", "--device", "toaster"], 2, ["toaster", "cuda:N"]),
        (["upscale", "a.png", "-f", "3", "-o", "out"], 2, ["3 times", "there are 2"]),
        (["upscale", "a.png", "-f", "two", "-o", "out"], 2, ["--factor"]),
        (["paint"], 2, ["paint"]),
    ],
)
def test_errors_are_one_sentence_and_write_nothing(
    impasto: Command, arguments: list[str], status: int, words: list[str]
) -> None:
    put(impasto.folder, "a.png", "b.png")
    (impasto.folder / "empty").mkdir()
    ran = impasto.run(*arguments)
    assert ran.status == status, ran.said
    assert ran.said.startswith("impasto: ")
    assert len(ran.said.splitlines()) == 1
    assert not [word for word in words if word not in ran.said], ran.said
    assert impasto.files(".") == {"a.png", "b.png"}


@pytest.mark.parametrize("command", ["styles", "doctor"])
def test_an_env_file_that_is_no_text_is_one_sentence(impasto: Command, command: str) -> None:
    (impasto.folder / ".env").write_bytes("NAME=Käthe".encode("latin-1"))
    ran = impasto.run(command)
    assert ran.status == 1
    assert "The file .env in this folder cannot be read: it must be text in UTF-8." in ran.said


def test_a_setting_that_cannot_be_used_is_one_sentence(impasto: Command) -> None:
    put(impasto.folder, "a.png")
    ran = impasto.run("stylize", "a.png", "-s", "red", "-o", "out", settings={"THREADS": "many"})
    assert ran.status == 1
    assert "IMPASTO_THREADS" in ran.said
    assert len(ran.said.splitlines()) == 1


def test_pictures_over_the_limit_are_refused_by_name_before_they_are_decoded(impasto: Command) -> None:
    put(impasto.folder, "a.png", width=64, height=48)
    put(impasto.folder, "long.png", width=9000, height=16)
    (impasto.folder / "bomb.png").write_bytes(huge_png(60_000, 60_000))

    limited = impasto.run("upscale", "a.png", "bomb.png", "-f", "2", "-o", "out", "--max-megapixels", "0.01")
    webp = impasto.run("upscale", "long.png", "-f", "2", "-o", "out", "--format", "webp")

    assert limited.status == 1
    assert "a.png: The picture has 64 x 48 px, its result would have 128 x 96; --max-megapixels" in limited.said
    assert "bomb.png" in limited.said
    assert "16383" in webp.said
    assert results(impasto, "out") == set()


def test_no_room_for_a_file_leaves_none(impasto: Command) -> None:
    put(impasto.folder, "photos/a.png", "photos/b.png", width=1500, height=1200)
    # Room for what OpenVINO writes to a temporary folder where a processor has bfloat16, but for no picture.
    limit_and_run = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from worker.cli import main; sys.argv = ['impasto', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", limit_and_run, "stylize", "photos", "-s", "red", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IMPASTO_ZOO_DIR": impasto.zoo}
    done = subprocess.run(command, cwd=impasto.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "out/a.png cannot be written" in done.stderr
    assert results(impasto, "out") == set()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_files_alone(impasto: Command, number: signal.Signals, status: int) -> None:
    put(impasto.folder, "photos/0.png", width=200, height=150)
    for index in range(1, 1000):
        (impasto.folder / f"photos/{index}.png").hardlink_to(impasto.folder / "photos/0.png")
    with impasto.start("stylize", "photos", "-s", "red", "-o", "out") as process:
        while not any((impasto.folder / "out").glob("*.png")):
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said.decode() == "Broken off; what is in out is whole.\n"
    written = results(impasto, "out")
    assert 0 < len(written) < 1000
    for name in written:
        assert impasto.picture(f"out/{name}").size == (200, 150)

    # Nothing is painted twice, and what was in hand at the end is on record too.
    resumed = impasto.run("stylize", "photos", "-s", "red", "-o", "out")
    assert f"{1000 - len(written)} pictures written to out, {len(written)} there already" in resumed.said
    assert len(results(impasto, "out")) == 1000
    other = impasto.run("stylize", "photos", "-s", "blue", "-o", "out")
    assert "0.png and 999 more are there already, the first made with other settings" in other.said


def test_styles_lists_what_is_there_and_what_is_refused(tmp_path: Path, small_zoo: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    (zoo / "broken.safetensors").write_bytes(b"no style")
    Path(os.fsdecode(os.fsencode(zoo) + b"/other\xff.safetensors")).write_bytes(b"no style")
    impasto = Command(tmp_path, zoo)

    table = impasto.run("styles").text
    held = json.loads(impasto.run("styles", "--json").text)

    rows = [line.split() for line in table.splitlines()]
    assert [row[:2] for row in rows if row][1] == ["blue", "Blue"]
    assert ["x2", "2", held["upscalers"][0]["digest"][:12]] in rows
    assert "broken.safetensors is refused" in table
    assert "other\\udcff.safetensors is refused" in table
    assert [style["name"] for style in held["styles"]] == ["blue", "red"]
    assert [upscaler["factor"] for upscaler in held["upscalers"]] == [2]
    assert len(held["refused"]) == 2
    put(tmp_path, "a.png")
    ran = impasto.run("stylize", "a.png", "-s", "broken", "-o", "out")
    assert "broken.safetensors is refused" in ran.said


def test_help_loads_no_torch_and_names_every_command(impasto: Command) -> None:
    script = (
        "import sys; from worker.cli import app; app(['--help'], standalone_mode=False);"
        'sys.exit(f\'{sorted({"torch", "openvino", "numpy", "pydantic_settings"} & set(sys.modules))}\')'
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    for command in ("stylize", "upscale", "styles", "doctor", "serve", "worker"):
        assert command in done.stdout
    assert impasto.run("--version").text.startswith("impasto ")
    assert "stylize" in impasto.run().text


def test_the_shell_is_offered_styles(impasto: Command) -> None:
    def offered(style: str) -> list[str]:
        typed = {"_IMPASTO_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"impasto stylize --style {style}"}
        environment = {**os.environ, **typed, "IMPASTO_ZOO_DIR": impasto.zoo}
        command = [sys.executable, "-m", "worker.cli"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert any("blue" in word for word in offered("b"))
    assert not any("red" in word for word in offered("b"))
    assert any("blue:0.3,red" in word.replace("\\", "") for word in offered("blue:0.3,r"))


def test_serve_becomes_the_service(impasto: Command) -> None:
    (impasto.folder / "service.py").write_text("raise SystemExit('the wrong program')")
    port = free_port()
    with impasto.start("serve", "--port", str(port)) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if b"Impasto paints on" in line)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert said.decode().split()[-1] == f"http://127.0.0.1:{port}"
    assert process.returncode == 0


def test_worker_hands_its_arguments_on(impasto: Command) -> None:
    ran = impasto.run("worker", "--devices", "toaster")
    assert ran.status == 2
    assert "IMPASTO_DEVICES" in ran.said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folders_are_named(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/closed/b.jpg")
    (tmp_path / "photos/closed").chmod(0)
    try:
        found = find_sources([str(tmp_path / "photos")], None)
    finally:
        (tmp_path / "photos/closed").chmod(0o755)
    assert [source.path.name for source in found.sources] == ["a.jpg"]
    assert [failure.name for failure in found.failures] == [str(tmp_path / "photos/closed")]
