"""What may params.yaml say? Typed, frozen, validated at once; every mistake with its key and what was expected."""

import copy
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.errors import InputError

PARAMS_FILE = Path("params.yaml")
STUDY_PARAMS = Path("study/params.yaml")  # cells, with what differs from PARAMS_FILE
Model = Literal["fc", "conv"]
Measure = Literal["radius", "luminance", "interpolation", "bound", "sampling", "smoothness"]
MODELS: tuple[Model, ...] = ("fc", "conv")
NAMES: Mapping[Model, str] = {"fc": "fully connected", "conv": "convolutional"}
COLORS: Mapping[Model, str] = {"fc": "#ff7f0e", "conv": "#1f77b4"}

TRAINING = (
    "kl_weight", "likelihood", "latent_dim", "posterior", "prior_components", "seed", "train", "networks.{model}",
)  # fmt: skip
# Which parameters a stage uses, `{model}` standing for fc or conv: the `params:` of its entry in dvc.yaml, and what its
# record and its MLflow run state.
USED_BY_STAGE: Mapping[str, tuple[str, ...]] = {
    "download": ("seed", "data"),
    "train": TRAINING,
    "evaluate": ("seed", "evaluate"),
    "survey": ("seed", "survey"),
    "calibration": ("seed", "evaluate.pairwise_images"),
    "gradients": (*TRAINING, "gradients"),
    "render": ("seed", "render"),
}
UNSTATED = ("posterior", "gaussian")  # the key is younger than published weights, whose headers state what they used

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

# A number to whoever wrote it; YAML reads some of these as text, such as 1e-3.
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,2})?", re.IGNORECASE | re.ASCII)

TOO_LARGE = 2**31  # for the counts of some library
PositiveInt = Annotated[int, Field(gt=0, lt=TOO_LARGE)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=TOO_LARGE)]
Estimator = Literal["reparameterized", "score_function", "leave_one_out"]
Precision = Literal["float32", "bfloat16"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping of params.yaml: no other keys, no conversions, no changes."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def agreed(self, *rules: tuple[str, bool, str]) -> Self:
        """Itself; ValueError with a line for each broken rule: key, whether it is broken, what was expected."""
        lines = [f"{key}: found {getattr(self, key)!r}, expected {what}" for key, broken, what in rules if broken]
        if lines:
            raise ValueError("\n".join(lines))
        return self


class Data(Section):
    """Where images come from."""

    source: Literal["cifar10", "folder", "shapes"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=100)]
    path: str | None
    url: Annotated[str, Field(pattern=r"^(https|file)://")] | None
    validation: Annotated[int, Field(ge=4, lt=TOO_LARGE)]

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        folder, cifar10, here = self.source == "folder", self.source == "cifar10", f"source is {self.source}"
        return self.agreed(
            ("path", folder and not self.path, f"a folder or an archive of images, because {here}"),
            ("path", not folder and self.path is not None, f"null unless source is folder ({here})"),
            ("url", not cifar10 and self.url is not None, f"null unless source is cifar10 ({here})"),
            ("name", self.source == "shapes" and self.name == "cifar10", f"another name, because {here}"),
        )


class Train(Section):
    """How a VAE is trained."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    learning_rate: Positive
    warmup_epochs: NonNegative
    kl_warmup_epochs: NonNegative
    weight_decay: NonNegative
    max_grad_norm: Positive
    horizontal_flips: bool
    precision: Precision


class FullyConnected(Section):
    """Sizes of the network fc."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)]


class Convolutional(Section):
    """Sizes of the network conv."""

    channels: Annotated[list[PositiveInt], Field(min_length=1, max_length=5)]


class Networks(Section):
    """Sizes of both networks."""

    fc: FullyConnected
    conv: Convolutional


class Evaluate(Section):
    """What a trained model is measured with."""

    batch_size: PositiveInt
    importance_samples: PositiveInt
    importance_images: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    draws: PositiveInt
    pairwise_images: Annotated[int, Field(ge=10, lt=TOO_LARGE)]
    mixture_components: PositiveInt
    mixture_images: PositiveInt
    inception_weights: str | None

    @model_validator(mode="after")
    def _a_mixture_has_an_image_for_each_component(self) -> Self:
        least = self.mixture_components
        too_few = self.mixture_images < least
        return self.agreed(("mixture_images", too_few, f"at least mixture_components ({least})"))


class Survey(Section):
    """What latent space is measured with."""

    measures: Annotated[list[Measure], Field(min_length=1)]
    radii: Annotated[int, Field(ge=5, lt=TOO_LARGE)]
    directions: Annotated[int, Field(ge=10, lt=TOO_LARGE)]
    pairwise_images: Annotated[int, Field(ge=10, lt=TOO_LARGE)]
    diagonals: PositiveInt
    images: Annotated[int, Field(ge=20, lt=TOO_LARGE)]
    components: PositiveInt
    outside: Annotated[float, Field(gt=0, lt=1)]
    pairs: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    steps: Annotated[int, Field(ge=3, lt=TOO_LARGE)]

    @model_validator(mode="after")
    def _shell_and_half_of_it_are_among_the_radii(self) -> Self:
        return self.agreed(("radii", self.radii % 4 != 1, "5, 9, 13 or so on: the typical shell is in the middle"))


class Gradients(Section):
    """An estimator of gradients, and what it is measured with."""

    estimator: Estimator
    draws: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    pixels: PositiveInt
    largest_latent_dim: PositiveInt
    estimates: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    variance_images: PositiveInt
    variance_estimates: PositiveInt
    reference_estimates: PositiveInt


class Render(Section):
    """What figures show."""

    samples: PositiveInt
    reconstructions: PositiveInt
    interpolation_steps: Annotated[int, Field(ge=2, lt=TOO_LARGE)]
    interpolation_rows: PositiveInt
    traversal_directions: PositiveInt
    neighbour_rows: PositiveInt
    neighbours: PositiveInt


class Run(Section):
    """Execution settings, on which no stage depends."""

    threads: Annotated[int, Field(gt=0, le=1024)] | None
    checkpoint_seconds: NonNegative


class Params(Section):
    """params.yaml."""

    kl_weight: NonNegative
    likelihood: Literal["gaussian", "bernoulli"]
    latent_dim: PositiveInt
    posterior: Literal["gaussian", "point"]
    prior_components: NonNegativeInt
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn's and NumPy's bound
    data: Data
    train: Train
    networks: Networks
    evaluate: Evaluate
    survey: Survey
    gradients: Gradients
    render: Render
    run: Run

    @model_validator(mode="after")
    def _a_point_has_no_rate(self) -> Self:
        point, because = self.posterior == "point", "0, because posterior is point: its KL divergence is infinite"
        return self.agreed(
            ("kl_weight", point and self.kl_weight > 0, because),
            ("prior_components", point and self.prior_components > 0, because),
        )


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
    """The leaves of `params` that a stage uses, by their dotted keys, less UNSTATED."""
    prefixes = tuple(key.format(model=model) for key in USED_BY_STAGE[stage])
    return {
        key: value
        for key, value in _leaves(params.model_dump())
        if any(f"{key}.".startswith(f"{prefix}.") for prefix in prefixes) and (key, value) != UNSTATED
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


def _mistakes(detail: ErrorDetails) -> Iterator[str]:
    place, given = [str(part) for part in detail["loc"]], detail["input"]
    key = ".".join(place)
    match detail["type"]:
        case "value_error":  # ours: lines that begin with the key's last part
            yield from (".".join([*place, line]) for line in str(detail["ctx"]["error"]).splitlines())
        case "extra_forbidden":
            near = get_close_matches(key, _known_keys(), n=1, cutoff=0.5)
            yield f"{key}: unknown key" + "".join(f"; the nearest known one is {name}" for name in near)
        case "missing":
            yield f"{key}: missing; expected a value (the committed params.yaml shows one)"
        case kind:
            expected = EXPECTED.get(kind, detail["msg"].removeprefix("Input should be "))
            line = f"{key}: found {given!r}, expected {expected.format(**detail.get('ctx', {}))}"
            if isinstance(given, str) and NUMBER.fullmatch(given):
                line += f"; YAML reads {given} as text, write {Decimal(given):f}"
            yield line
