"""Many images: the loss is the mean over all, against a plain conv2d loop written out here."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from gabordiag.errors import InputError, UsageError
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from tests.objective.plain_images import SMALL, plain_loop

LOSSES = ("rmse", "mse", "cosine")
SHAPES = ((30, 26), (24, 41), (33, 33))


@pytest.fixture
def pictures(texture):
    """Three images of three sizes and of different brightness."""
    return [texture(*shape, seed=seed, mean=seed) for seed, shape in enumerate(SHAPES)]


class TestTheMean:
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("padding", ["valid", "same", "circular"])
    @pytest.mark.parametrize("direct", [False, True])
    def test_loss_and_gradient_are_the_loops(self, pictures, loss, padding, direct):
        experiment = Experiment(images=pictures, loss=loss, padding=padding, **SMALL)
        objective = along(experiment, direct=direct)
        for theta in (-1.1, 0.3, 0.8):
            value, slope = plain_loop(pictures, theta, loss, padding)
            assert objective.loss_at(theta)[0] == pytest.approx(value, rel=1e-10)
            assert objective.gradient(theta)[0] == pytest.approx(slope, rel=1e-10)
            assert objective.derivatives(theta)[1, 0] == pytest.approx(slope, rel=1e-10)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("direct", [False, True])
    def test_noise_joins_every_target(self, pictures, loss, direct):
        experiment = Experiment(images=pictures, loss=loss, target_noise=0.7, **SMALL)
        noises = [picture.noise for picture in experiment.pictures()]
        objective = along(experiment, direct=direct)
        value, slope = plain_loop(pictures, -0.4, loss, noises=noises)
        assert objective.loss_at(-0.4)[0] == pytest.approx(value, rel=1e-10)
        assert objective.gradient(-0.4)[0] == pytest.approx(slope, rel=1e-9)

    @pytest.mark.parametrize("name", ["wavelength", "sigma", "psi", "gamma"])
    def test_the_other_parameters(self, pictures, name):
        experiment = Experiment(images=pictures, loss="mse", **SMALL)
        parameter = experiment.parameter(name)
        values = np.linspace(parameter.low, parameter.high, 5)[1:-1]
        ours = along(experiment, name).derivatives(values)
        direct = along(experiment, name, direct=True).derivatives(values)
        np.testing.assert_allclose(ours, direct, rtol=1e-9, atol=1e-11)

    def test_order_does_not_matter_and_copies_count_once_each(self, pictures):
        def loss(images):
            settings = {"loss": "mse", "target_noise": 0.2, **SMALL}
            return along(Experiment(images=images, **settings)).loss_at(0.1)[0]

        assert loss(pictures[::-1]) == pytest.approx(loss(pictures), rel=1e-13)
        assert loss(pictures * 2) == pytest.approx(loss(pictures), rel=1e-13)

    def test_one_of_many_is_the_image_alone(self, pictures):
        many = along(Experiment(images=pictures[:1], **SMALL)).derivatives([0.1, 1.0])
        one = along(Experiment(image=pictures[0], **SMALL)).derivatives([0.1, 1.0])
        np.testing.assert_allclose(many, one, rtol=1e-13)

    def test_normalization_is_each_images_own(self, pictures):
        shaped = [(image - image.mean()) / image.std() for image in pictures]
        ours = along(Experiment(images=pictures, normalize="standardize", **SMALL))
        np.testing.assert_allclose(
            ours.loss_at(-0.2), along(Experiment(images=shaped, **SMALL)).loss_at(-0.2), rtol=1e-12
        )

    def test_squared_keeps_the_images(self, pictures):
        objective = along(Experiment(images=pictures, loss="rmse", **SMALL))
        _ = objective.compressed
        smooth = objective.squared()
        np.testing.assert_allclose(smooth.loss_at(0.2), objective.loss_at(0.2) ** 2, rtol=1e-13)
        assert smooth.has_single_images


class TestSomeOfThem:
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("direct", [False, True])
    @pytest.mark.parametrize("indices", [(1,), (2, 0)])
    def test_a_part_is_the_mean_over_the_part(self, pictures, loss, direct, indices):
        objective = along(Experiment(images=pictures, loss=loss, **SMALL), direct=direct)
        part = objective.on_images(indices)
        value, slope = plain_loop([pictures[index] for index in indices], 0.2, loss)
        assert part.loss_at(0.2)[0] == pytest.approx(value, rel=1e-10)
        assert part.gradient(0.2)[0] == pytest.approx(slope, rel=1e-10)

    def test_the_shortcut_is_checked_on_first_middle_and_last(self, texture):
        images = [texture(24, 20, seed=seed) for seed in range(8)]
        objective = along(Experiment(images=images, loss="mse", **SMALL))
        assert objective.checked_images == (0, 4, 7)
        assert 0 < objective.shortcut_error < 1e-11

    def test_a_wrong_shortcut_is_noticed(self, texture, monkeypatch):
        images = [texture(24, 20, seed=seed) for seed in range(4)]
        objective = along(Experiment(images=images, loss="mse", **SMALL))
        _ = objective.compressed
        objective._grams[2][2].mul_(1.001)
        assert objective.shortcut_error > 1e-5

    def test_too_many_matrices_are_dropped(self, pictures, monkeypatch):
        monkeypatch.setattr("gabordiag.objective.gabor_line._MOST_BYTES", 20_000)
        objective = along(Experiment(images=pictures, loss="mse", **SMALL))
        value, _ = plain_loop(pictures, 0.2, "mse")
        assert objective.loss_at(0.2)[0] == pytest.approx(value, rel=1e-10)
        assert not objective.has_single_images
        assert 0 < objective.shortcut_error < 1e-11
        with pytest.raises(InputError, match="Use fewer images"):
            objective.on_images([0])


@pytest.fixture
def folder(tmp_path, texture):
    """Four usable images, three that are broken, and what file managers leave."""
    for name, seed in (("b.png", 1), ("a.png", 0), ("d.jpg", 3)):
        grey = np.clip(128 + 40 * texture(30, 34, seed=seed, mean=0), 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / name)
    np.save(tmp_path / "c.npy", texture(25, 25))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("this is no image")
    Image.new("L", (40, 40), 7).save(tmp_path / "flat.png")
    Image.fromarray(grey[:5, :5]).save(tmp_path / "tiny.png")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "more").mkdir()
    return tmp_path


class TestFolders:
    def test_what_cannot_be_used_is_named_with_the_reason(self, folder):
        found = Experiment(images=folder, **SMALL).image_set
        assert found.names == ("a.png", "b.png", "c.npy", "d.jpg")
        why = dict(found.skipped)
        assert list(why) == ["cut.png", "flat.png", "more", "text.png", "tiny.png"]
        assert why["cut.png"].startswith("is damaged")
        assert why["flat.png"].startswith("is constant")
        assert why["more"] == "is a folder, not an image"
        assert why["text.png"] == "is not an image that Pillow can read"
        assert why["tiny.png"] == "has 5 x 5 pixels, too few for a kernel of side 9"
        json.dumps(found.to_dict())
        assert found.to_dict()["used"] == 4

    def test_the_rest_is_used(self, folder):
        grey = [np.asarray(Image.open(folder / n), float) / 255 for n in ("a.png", "b.png")]
        grey += [np.load(folder / "c.npy"), np.asarray(Image.open(folder / "d.jpg"), float) / 255]
        value, _ = plain_loop(grey, -0.5, "rmse")
        for images in (
            folder,
            str(folder),
            [folder / n for n in ("d.jpg", "c.npy", "b.png")] + [str(folder / "a.png")],
        ):
            assert along(Experiment(images=images, **SMALL)).loss_at(-0.5)[0] == pytest.approx(
                value, rel=1e-11
            )

    def test_strict_refuses(self, folder):
        with pytest.raises(InputError, match=r"5 of 9 images.*cut\.png is damaged.*and 2 more"):
            Experiment(images=folder, strict=True, **SMALL).prepare()
        whole = Experiment(images=[folder / "a.png", folder / "b.png"], strict=True, **SMALL)
        assert len(whole.prepare().image_set) == 2

    def test_nothing_to_use(self, tmp_path):
        with pytest.raises(InputError, match="holds no images"):
            Experiment(images=tmp_path).prepare()
        (tmp_path / "notes.txt").write_text("no image")
        with pytest.raises(InputError, match=r"None of the 1 images.*notes\.txt is not an image"):
            Experiment(images=tmp_path).prepare()
        with pytest.raises(InputError, match="No folder at"):
            Experiment(images=tmp_path / "nowhere").prepare()
        with pytest.raises(InputError, match="is a file"):
            Experiment(images=tmp_path / "notes.txt").prepare()
        with pytest.raises(UsageError, match="empty list"):
            Experiment(images=[]).prepare()

    def test_a_named_file_that_is_not_there_is_refused(self, folder):
        with pytest.raises(InputError, match=r"No image at .*nowhere\.png"):
            Experiment(images=[folder / "a.png", folder / "nowhere.png"], **SMALL).prepare()

    def test_names_of_any_bytes_become_text(self, folder, texture):
        np.save(folder / "ok.npy", texture())
        try:
            (folder / "ok.npy").rename(folder / os.fsdecode(b"\x1b[1m\xff.npy"))
        except OSError:
            pytest.skip("this file system takes no such names")
        found = Experiment(images=folder, **SMALL).image_set
        assert found.names[0] == "\ufffd[1m\ufffd.npy"
        json.dumps(found.names).encode("utf-8")

    def test_arrays_are_numbered(self, texture):
        found = Experiment(images=[texture(), texture()[0], np.ones((9, 9))], **SMALL).image_set
        assert found.names == ("array 0",)
        assert [file for file, _ in found.skipped] == ["array 1", "array 2"]
        assert found.skipped[0][1].startswith("has shape (34,)")

    def test_noise_is_the_images_own(self, folder):
        def noises(images):
            many = Experiment(images=images, target_noise=0.1, seed=3, **SMALL)
            names = [name.rsplit("/", 1)[-1] for name in many.image_set.names]
            return dict(zip(names, (p.noise for p in many.pictures()), strict=True))

        whole, part = noises(folder), noises([folder / "d.jpg", folder / "b.png"])
        for name, noise in part.items():
            torch.testing.assert_close(noise, whole[name], rtol=0, atol=0)
        assert not torch.equal(whole["a.png"], whole["b.png"])
        deviation = torch.cat([noise.flatten() for noise in whole.values()]).std()
        assert deviation == pytest.approx(0.1, rel=0.1)

    def test_image_and_images_exclude_each_other(self, folder):
        with pytest.raises(UsageError, match="exclude each other"):
            Experiment(image="pink", images=folder)

    def test_settings(self, folder, texture):
        assert Experiment(images=folder, strict=True).to_dict()["images"] == str(folder)
        settings = Experiment(images=[texture(3, 4), "pink"]).to_dict()
        assert settings["images"] == ["array of shape (3, 4)", "pink"]
        assert not {"image", "progress"} & set(json.loads(json.dumps(settings)))

    def test_progress_is_told(self, folder):
        told = []
        experiment = Experiment(
            images=folder,
            progress=lambda what, done, total: told.append((what, done, total)),
            **SMALL,
        ).prepare()
        assert told == [("reading images", n, 9) for n in range(1, 10)]
        told.clear()
        _ = along(experiment).compressed
        assert told == [("convolving images", n, 4) for n in range(1, 5)]

    def test_one_picture_is_in_memory_at_a_time(self, folder, monkeypatch):
        import weakref

        experiment = Experiment(images=folder, **SMALL).prepare()
        alive = []
        for picture in experiment.pictures():
            alive.append(weakref.ref(picture))
            del picture
        assert [ref() for ref in alive] == [None] * 4
