"""Configuration of a run: TOML in, checked models out, unknown keys refused."""

from __future__ import annotations

import difflib
import json
import textwrap
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from bgfast.errors import UserError
from bgfast.flows import LAYERS
from bgfast.flows.execution import Precision
from bgfast.flows.parser import parse
from bgfast.sampling.generate import Latent
from bgfast.training.schedule import TrainingConfig

M = TypeVar("M", bound=BaseModel)

PRESET_FOLDER = resources.files("bgfast.experiments") / "presets"


class Section(BaseModel):
    """A table of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_temperatures(tau: tuple[float, ...]) -> None:
    """Raise ValueError unless ``tau`` holds positive numbers, none of them twice."""
    if not tau or any(not 0 < t < float("inf") for t in tau):
        raise ValueError(f"tau must hold positive numbers, got {list(tau)}")
    if len(set(tau)) < len(tau):
        raise ValueError(f"tau must not repeat a number, got {list(tau)}")


class FlowConfig(Section):
    """The network.

    Parameters
    ----------
    architecture
        The slides' strings: ``"R8"``, ``"N10S"``, ``"(RN)2"``.
    hidden
        Widths of the hidden layers of each S and T net.
    activation
        ``"tanh"``, ``"relu"`` or ``"silu"``.
    split
        ``"even-odd"`` (as published) or ``"particle"`` (random halves of particles in every block).
    whitening
        Linear layer fitted to the training data, or none.
    spline_bins, spline_bound, precision
        Of splines (Q) and nets; see :func:`bgfast.flows.architecture`.
    """

    architecture: str = "R8"
    hidden: tuple[PositiveInt, ...] = (200, 200, 200)
    activation: Literal["tanh", "relu", "silu"] = "tanh"
    split: Literal["even-odd", "particle"] = "even-odd"
    whitening: Literal["none", "standardise", "pca", "zca"] = "none"
    spline_bins: int = Field(8, ge=2, le=256)
    spline_bound: float = Field(5.0, gt=0, allow_inf_nan=False)
    precision: Precision = "full"

    @field_validator("architecture")
    @classmethod
    def _parses(cls, spec: str) -> str:
        parse(spec, LAYERS)
        return spec


class SamplingConfig(Section):
    """How many samples are drawn, at which relative temperatures, from which latent vectors."""

    n: int = Field(100_000, ge=100)
    tau: tuple[float, ...] = (1.0,)
    latent: Latent = "normal"
    chunk: int | None = Field(None, ge=1)  # default: what suits the device

    @model_validator(mode="after")
    def _positive_tau(self) -> SamplingConfig:
        check_temperatures(self.tau)
        return self


class AnalysisConfig(Section):
    """Range, bins and dividing value of the free-energy profile along the reaction coordinate."""

    bounds: tuple[FiniteFloat, FiniteFloat]
    n_bins: int = Field(80, ge=2)
    split: float

    @model_validator(mode="after")
    def _ordered(self) -> AnalysisConfig:
        low, high = self.bounds
        if not low < self.split < high:
            raise ValueError(
                f"bounds must be [low, high] with low < split < high, got {[low, high]} "
                f"and split = {self.split}"
            )
        return self


class RunTraining(TrainingConfig):
    """A training schedule whose length can be set as a whole.

    Parameters
    ----------
    steps
        Total number of steps; the stages keep their proportions. Default: what the stages say.
    """

    steps: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _rescale(cls, table: Any) -> Any:
        steps = table.get("steps") if isinstance(table, dict) else None
        stages = table.get("stages") if isinstance(table, dict) else None
        if type(steps) is not int or steps < 1 or not isinstance(stages, list):
            return table
        lengths = [s["steps"] for s in stages if isinstance(s, dict) and "steps" in s]
        if len(lengths) != len(stages) or not all(isinstance(n, int) and n > 0 for n in lengths):
            return table  # what is wrong with the stages is said when they are checked
        total = sum(lengths)
        scaled = [s | {"steps": max(1, round(s["steps"] * steps / total))} for s in stages]
        # The lengths now say it all: what is saved must not be scaled again when it is read.
        return {k: v for k, v in table.items() if k != "steps"} | {"stages": scaled}


class RunConfig(Section):
    """What every experiment has."""

    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")


def preset_names() -> list[str]:
    """Return the names of the presets that come with bgfast."""
    return sorted(p.name.removesuffix(".toml") for p in PRESET_FOLDER.iterdir() if p.is_file())


def read_table(
    source: str, *, quick: bool = False, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Read a preset or a TOML file and apply ``--quick`` and ``--set``.

    Parameters
    ----------
    source
        Name of a preset or path of a TOML file.
    quick
        Apply the file's ``[quick]`` table: the same run, much smaller.
    overrides
        Items ``"section.key=value"``; values are TOML, bare words are strings.

    Raises
    ------
    UserError
        If there is no such preset or file, the file is not TOML, or an override has no ``=``.
    """
    table = _parse(source)
    small = table.pop("quick", None)
    if quick:
        if not isinstance(small, dict):
            raise UserError(f"--quick: {source} has no [quick] table")
        table = _merged(table, small)
    for item in overrides:
        key, found, text = item.partition("=")
        if not found or not key.strip():
            raise UserError(f"--set {item}: write it as section.key=value")
        _assign(table, key.strip().split("."), _value(text.strip()), item)
    return table


def validated(model: type[M], table: dict[str, Any], source: str) -> M:
    """Return ``model`` built from ``table``; every problem in one line that names the key.

    Raises
    ------
    UserError
        If a key is unknown or a value is not allowed.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(_problem(model, e) for e in error.errors())
        raise UserError(f"{source}: {problems}") from None


def to_toml(config: BaseModel) -> str:
    """Return ``config`` as TOML that :func:`read_table` reads back."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _parse(source: str) -> dict[str, Any]:
    if source.endswith(".toml"):
        return parse_toml(Path(source))
    if source in preset_names():
        return parse_toml(PRESET_FOLDER / f"{source}.toml")
    close = difflib.get_close_matches(source, preset_names(), n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(
        f"there is no preset {source!r}{hint}; presets are {', '.join(preset_names())}, "
        "or give the path of a .toml file"
    )


def parse_toml(path: Path | Traversable) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    UserError
        If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _assign(table: dict[str, Any], keys: list[str], value: Any, item: str) -> None:
    node: Any = table
    for key in keys[:-1]:
        inside = isinstance(node, list)
        node = node[_index(node, key, item)] if inside else node.setdefault(key, {})
        if not isinstance(node, dict | list):
            raise UserError(f"--set {item}: {key} is a value, not a table")
    if isinstance(node, list):
        node[_index(node, keys[-1], item)] = value
    else:
        node[keys[-1]] = value


def _index(node: list[Any], key: str, item: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise UserError(f"--set {item}: {key!r} must be an index below {len(node)}")
    return int(key)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _problem(model: type[BaseModel], error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        got = textwrap.shorten(json.dumps(error["input"], default=str), 80)
        return f"{where or 'configuration'}: {message} (got {got})"
    known = _keys_at(model, error["loc"][:-1])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"
    return f"unknown key {where!r}{hint}"


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        nested = [a for a in _annotations(field.annotation) if field] if field else []
        if nested:
            model = nested[0]
    return list(model.model_fields)


def _annotations(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _annotations(a)]
