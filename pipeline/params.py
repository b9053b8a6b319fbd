"""What may params.yaml say? Typed, frozen, validated at once; every mistake with its key and what was expected."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.errors import InputError

PARAMS_FILE = Path("params.yaml")
Model = Literal["fc", "conv"]
MODELS: tuple[Model, ...] = ("fc", "conv")
NAMES: Mapping[Model, str] = {"fc": "fully connected", "conv": "convolutional"}
COLORS: Mapping[Model, str] = {"fc": "#ff7f0e", "conv": "#1f77b4"}  # wherever both are shown

# Which parameters a stage uses, `{model}` standing for fc or conv: the `params:` of its entry in dvc.yaml, and what its
# record and its MLflow run state.
USED_BY_STAGE: Mapping[str, tuple[str, ...]] = {
    "download": ("seed", "data"),
    "train": ("kl_weight", "likelihood", "latent_dim", "prior_components", "seed", "train", "networks.{model}"),
    "yardstick": ("seed", "yardstick"),
    "evaluate": ("seed", "evaluate"),
    "survey": ("seed", "survey"),
    "autoencoder": ("likelihood", "latent_dim", "seed", "train", "networks.{model}"),
    "theory": ("seed", "theory"),
    "gradients": ("kl_weight", "likelihood", "latent_dim", "seed", "train", "networks.{model}", "gradients"),
    "render": ("seed", "render"),
}

# Where pydantic's own words are not those of a YAML file.
EXPECTED: Mapping[str, str] = {
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "model_type": "a mapping of parameters",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
}

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Data(Section):
    source: Literal["cifar10", "folder", "shapes"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=100)]
    path: str | None
    url: Annotated[str, Field(pattern=r"^(https|file)://")] | None
    validation: PositiveInt

    @model_validator(mode="after")
    def source_has_what_it_needs(self) -> Self:
        mistakes = []
        if self.source == "folder" and not self.path:
            mistakes.append("path: found null, expected a folder or an archive of pictures, because source is folder")
        if self.source != "folder" and self.path is not None:
            mistakes.append(f"path: found {self.path!r}, expected null unless source is folder (it is {self.source})")
        if self.source != "cifar10" and self.url is not None:
            mistakes.append(f"url: found {self.url!r}, expected null unless source is cifar10 (it is {self.source})")
        if self.source != "cifar10" and self.name == "cifar10":
            mistakes.append(f"name: found 'cifar10', expected another name, because source is {self.source}")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class Train(Section):
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    warmup_epochs: NonNegative
    kl_warmup_epochs: NonNegative
    weight_decay: NonNegative
    max_grad_norm: Positive
    horizontal_flips: bool


class Yardstick(Section):
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    weight_decay: NonNegative


class FullyConnected(Section):
    hidden: Annotated[list[PositiveInt], Field(min_length=1)]


class Convolutional(Section):
    channels: Annotated[list[PositiveInt], Field(min_length=1, max_length=5)]


class Networks(Section):
    fc: FullyConnected
    conv: Convolutional


class Evaluate(Section):
    batch_size: PositiveInt
    importance_samples: PositiveInt
    importance_images: Annotated[int, Field(ge=2)]
    draws: PositiveInt
    pairwise_images: Annotated[int, Field(ge=10)]
    mixture_components: PositiveInt
    mixture_images: PositiveInt
    inception_weights: str | None

    @model_validator(mode="after")
    def a_mixture_has_a_image_for_each_component(self) -> Self:
        if self.mixture_images < self.mixture_components:
            raise ValueError(
                f"mixture_images: found {self.mixture_images}, expected at least mixture_components "
                f"({self.mixture_components})"
            )
        return self


class Survey(Section):
    radii: Annotated[int, Field(ge=5)]
    directions: Annotated[int, Field(ge=10)]
    diagonals: PositiveInt
    pairs: Annotated[int, Field(ge=2)]
    steps: Annotated[int, Field(ge=3)]

    @model_validator(mode="after")
    def shell_and_half_of_it_are_among_the_radii(self) -> Self:
        if self.radii % 4 != 1:
            raise ValueError(
                f"radii: found {self.radii}, expected 5, 9, 13 or so on: the typical shell is in the middle"
            )
        return self


class Theory(Section):
    pictures: Annotated[int, Field(ge=20)]
    components: PositiveInt
    outside: Annotated[float, Field(gt=0, lt=1)]
    pairs: Annotated[int, Field(ge=2)]
    steps: Annotated[int, Field(ge=3)]
    plausible: Annotated[float, Field(gt=0, lt=1)]


class Gradients(Section):
    draws: Annotated[int, Field(ge=2)]
    pixels: PositiveInt
    largest_latent_dim: PositiveInt
    estimates: Annotated[int, Field(ge=2)]
    variance_images: PositiveInt
    variance_estimates: PositiveInt
    reference_estimates: PositiveInt


class Render(Section):
    samples: PositiveInt
    reconstructions: PositiveInt
    interpolation_steps: Annotated[int, Field(ge=2)]
    interpolation_rows: PositiveInt
    traversal_directions: PositiveInt
    neighbour_rows: PositiveInt
    neighbours: PositiveInt


class Run(Section):
    threads: PositiveInt | None
    checkpoint_seconds: NonNegative


class Params(Section):
    kl_weight: NonNegative
    likelihood: Literal["gaussian", "bernoulli"]
    latent_dim: PositiveInt
    prior_components: NonNegativeInt
    seed: Annotated[int, Field(ge=0)]
    data: Data
    train: Train
    networks: Networks
    yardstick: Yardstick
    evaluate: Evaluate
    survey: Survey
    theory: Theory
    gradients: Gradients
    render: Render
    run: Run


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The validated parameters; InputError lists all mistakes, one line each."""
    try:
        return Params.model_validate(load_yaml(path))
    except ValidationError as error:
        lines = [f"{path}: {line}" for detail in error.errors() for line in _mistakes(detail)]
        raise InputError("\n".join(lines)) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The parameters of a file as they stand there."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run where dvc.yaml lies") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, expected a mapping of parameters")
    return content


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a file with some of them, by dotted key, replaced.

    >>> changed({"seed": 0, "train": {"epochs": 2, "batch_size": 8}}, {"train.epochs": 3})
    {'seed': 0, 'train': {'epochs': 3, 'batch_size': 8}}
    """
    result = copy.deepcopy(dict(content))
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        section = result
        for part in sections:
            section = section.setdefault(part, {})
        section[leaf] = value
    return result


def used_parameters(params: Params, stage: str, model: Model | None = None) -> dict[str, Any]:
    """The leaves of `params` that a stage uses, by their dotted keys."""
    prefixes = tuple(key.format(model=model) for key in USED_BY_STAGE[stage])
    return {
        key: value
        for key, value in _leaves(params.model_dump())
        if any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _known_keys(section: type[Section] = Params, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _known_keys(field.annotation, f"{prefix}{name}.")


def _mistakes(detail: ErrorDetails) -> list[str]:
    if detail["type"] == "value_error":  # ours: lines that begin with the key's last part
        section = ".".join(str(part) for part in detail["loc"])
        return [f"{section}.{line}" for line in str(detail["ctx"]["error"]).splitlines()]
    return [_mistake(detail)]


def _mistake(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _known_keys(), n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f"; the nearest known one is {near[0]}" if near else "")
    if detail["type"] == "missing":
        return f"{key}: missing; expected a value (the committed params.yaml shows one)"
    expected = EXPECTED.get(detail["type"], detail["msg"].removeprefix("Input should be ")).format(
        **detail.get("ctx", {})
    )
    line = f"{key}: found {detail['input']!r}, expected {expected}"
    if isinstance(detail["input"], str) and _is_number(detail["input"]):
        line += f"; YAML reads {detail['input']} as text, write {Decimal(detail['input']):f}"
    return line


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
