"""A recipe is data: a strict schema, all errors at once, the nearest known key for an unknown one (house law 9)."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from eosin.core.errors import EosinError, RecipeError
from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar, ThinkStyle
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.curation.corrections import CorrectionsSettings
from eosin.core.settings.data import DataSettings, PhantomData
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.launch import Launch
from eosin.core.settings.model import ModelSettings, TinyModel
from eosin.core.settings.rl import REWARD_FORMS
from eosin.core.settings.scoring import ScoringSettings, merged
from eosin.core.settings.stages import STAGE_CLASSES, RlStage, StageSettings
from eosin.core.store.names import file_name, is_file_name
from eosin.core.store.yaml_text import parse_yaml

__all__ = ["Recipe", "Resolved", "TinyModel", "load_recipe"]


class ReportSettings(BaseModel):
    """What the report page shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gallery: int = Field(default=24, ge=0, description="held-out images shown with their replies")
    curves: bool = Field(
        default=True, description="draw what was logged over the steps; false leaves that to TensorBoard and its like"
    )
    result: str | None = Field(
        default=None, description="stage that the first lines speak of; by default the last one that is examined"
    )


class Recipe(BaseModel):
    """One run: data, model, stages in order, exams, report.

    Attributes:
        schema_version: of this form of recipe; a later form will have another number.
        name: of the run; by default the file's.
        description: one sentence for the report.
        seed: of everything that is drawn, unless a part has a seed of its own.
        data: where the samples come from; `source` says which kind.
        corrections: experts' corrections, added to the training samples with a weight of their own (docs/serve.md).
        grammar: tag set of the reply, such as think/answer or info/think/answer.
        numbered_steps: reasoning is written as numbered steps, "1. ", "2. ", which masking can cut between.
        think_style: what the prompt says of how to think: nothing, step by step, or in drafts of five words a step.
        prompt: how questions are put and how gold answers are written.
        model: the model before any training; `kind` says which.
        train: settings that every stage inherits, where the stage has them and does not set them itself.
        scoring: judge, sentence encoder, CLIP and knowledge graph of all rewards and exams; a stage or an exam replaces
            single entries in a block of its own.
        stages: training stages in order, by name; a name that is a kind (sft, rl) needs no `kind`.
        base_exam: whether the model is examined before any training.
        exams: by name; all of them are held after every stage that is examined.
        report: what the report page shows.
        launch: how the run's processes are started; it may change while a run goes on.
        track: where figures also go, by name; by default TensorBoard in the run's folder, where it is installed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: typing.Literal[1] = 1
    name: str = ""
    description: str = ""
    seed: int = 0
    data: DataSettings = PhantomData()
    corrections: CorrectionsSettings | None = None
    grammar: str = "think/answer"
    numbered_steps: bool = False
    think_style: ThinkStyle = "plain"
    prompt: PromptSettings = PromptSettings()
    model: ModelSettings = TinyModel()
    train: dict[str, Any] = Field(default_factory=dict)
    scoring: ScoringSettings = ScoringSettings()
    stages: dict[str, StageSettings] = Field(min_length=1)
    base_exam: bool = True
    exams: dict[str, ExamSettings] = Field(default_factory=lambda: {"heldout": ExamSettings()})
    report: ReportSettings = ReportSettings()
    launch: Launch = Launch()
    track: list[typing.Literal["tensorboard", "wandb", "mlflow", "trackio"]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        raw = dict(raw)
        for key, tag, value in (("data", "source", "phantom"), ("model", "kind", "tiny")):
            if isinstance(raw.get(key), Mapping) and tag not in raw[key]:
                raw[key] = {tag: value, **raw[key]}
        if isinstance(raw.get("stages"), Mapping):
            shared = raw["train"] if isinstance(raw.get("train"), Mapping) else {}
            raw["stages"] = {
                n: _with_scoring(_inherited(n, s, shared), raw.get("scoring"), True) for n, s in raw["stages"].items()
            }
        if isinstance(raw.get("exams"), Mapping):
            raw["exams"] = {n: _with_scoring(e, raw.get("scoring"), False) for n, e in raw["exams"].items()}
        return raw

    @field_validator("grammar")
    @classmethod
    def _known_form(cls, value: str) -> str:
        try:
            Grammar.of(value)
        except EosinError as exc:
            raise ValueError(f"{exc.message} Expected {exc.expected}.") from None
        return value

    @model_validator(mode="after")
    def _stages_connect(self) -> Recipe:
        known = {"base"}
        for name, stage in self.stages.items():
            if name == "base":
                raise ValueError("a stage cannot be called 'base'; so the model before training is called")
            if stage.start is not None and stage.start not in known:
                raise ValueError(f"stages.{name}.start is {stage.start!r}; expected one of {sorted(known)}")
            known.add(name)
            start = self.start_of(name)
            if start != "base" and isinstance(stage, ClipStage) != isinstance(self.stages[start], ClipStage):
                raise ValueError(f"stages.{name}.start is {start!r}; a clip stage and another share no model")
        if self.report.result is not None and self.report.result not in known:
            raise ValueError(f"report.result is {self.report.result!r}; expected one of {sorted(known)}")
        return self

    @model_validator(mode="after")
    def _asked_as_trained(self) -> Recipe:
        """An exam of a run asks each question once, all its pictures together."""
        for name, exam in self.exams.items():
            asked = [*(["shifts"] if exam.shifts else []), *([] if exam.input.joint else ["input.joint"])]
            if asked:
                raise ValueError(f"exams.{name}: {', '.join(asked)} is for eosin evaluate, after the run")
        return self

    @model_validator(mode="after")
    def _names_can_be_files(self) -> Recipe:
        """Names of recipes, stages and exams become folders."""
        named = [("name", self.name or "x"), *(("stages", n) for n in self.stages), *(("exams", n) for n in self.exams)]
        unfit = [f"{field}: {name!r}" for field, name in named if not is_file_name(name)]
        if unfit:
            raise ValueError(
                f"{'; '.join(unfit)} cannot be the name of a folder; letters, digits, '-', '_' and inner dots can"
            )
        return self

    @field_validator("train")
    @classmethod
    def _settings_of_a_stage(cls, value: dict[str, Any]) -> dict[str, Any]:
        unknown = [k for k in value if k not in _stage_keys()]
        if unknown:
            hints = [f"{k} is not a setting of any stage{_nearest(k, _stage_keys())}" for k in unknown]
            raise ValueError("; ".join(hints))
        return value

    @property
    def reply_grammar(self) -> Grammar:
        return Grammar.of(self.grammar, numbered_steps=self.numbered_steps, think_style=self.think_style)

    def start_of(self, name: str) -> str:
        """The stage whose checkpoint `name` starts from, or "base". Clip stages have a line of their own."""
        stage = self.stages[name]
        if stage.start is not None:
            return stage.start
        is_clip = isinstance(stage, ClipStage)
        before = list(self.stages)[: list(self.stages).index(name)]
        return next((n for n in reversed(before) if isinstance(self.stages[n], ClipStage) == is_clip), "base")

    @property
    def has_language(self) -> bool:
        """Whether any stage trains the language model: a run of clip stages alone builds and examines none."""
        return not all(isinstance(s, ClipStage) for s in self.stages.values())


def _stage_keys() -> list[str]:
    return sorted({k for c in STAGE_CLASSES.values() for k in c.model_fields})


def _inherited(name: str, settings: Any, shared: Mapping[str, Any]) -> Any:
    if settings is None:
        settings = {}
    if not isinstance(settings, Mapping):
        return settings
    kind = settings.get("kind", name)
    stage_class = STAGE_CLASSES.get(kind) if isinstance(kind, str) else None
    if stage_class is None:
        return {"kind": kind, **settings}
    usable = {k: v for k, v in shared.items() if k in stage_class.model_fields}
    return {"kind": kind, **usable, **settings}


def _with_scoring(settings: Any, shared: Any, is_stage: bool) -> Any:
    """Settings of a stage with rewards, or of an exam, with the run's scoring block where they have no own."""
    if not isinstance(settings, Mapping) or not shared:
        return settings
    if is_stage and not _has_scoring(settings.get("kind")):
        return _with_encoder(settings, shared)
    return {**settings, "scoring": merged(shared, settings.get("scoring"))}


def _with_encoder(settings: Mapping[str, Any], shared: Any) -> Mapping[str, Any]:
    """Published pseudo-bags compare names by the run's sentence encoder where they name none."""
    bags = settings.get("pseudo_bags")
    if not isinstance(bags, Mapping) or bags.get("reward") != "published" or "encoder" in bags:
        return settings
    encoder = shared.get("encoder") if isinstance(shared, Mapping) else None
    return settings if encoder is None else {**settings, "pseudo_bags": {**bags, "encoder": encoder}}


def _has_scoring(kind: Any) -> bool:
    return isinstance(kind, str) and kind in STAGE_CLASSES and "scoring" in STAGE_CLASSES[kind].model_fields


Settings = typing.TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True)
class Resolved:
    """A recipe with all its fields, and where each came from."""

    recipe: Recipe
    provenance: tuple[dict[str, Any], ...]

    def to_yaml(self) -> str:
        """All fields, as YAML that gives the same recipe again."""
        data = self.recipe.model_dump(mode="json")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Resolved:
    """Read a recipe, apply `key=value` overrides, and check it against the schema.

    Raises:
        RecipeError: with every problem found, each naming its field and, for an unknown key, the nearest known one.
    """
    raw = read_raw(path)
    from_file = {field: value for field, value in _leaves(raw) if value != {}}
    changed = [_override(raw, item) for item in overrides]
    recipe = _checked(Recipe, raw, path)
    return Resolved(recipe, tuple(_provenance(recipe, from_file, changed)))


def load_settings(model: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a file of settings of another kind than a run's, with `key=value` overrides.

    Raises:
        RecipeError: as for `load_recipe`.
    """
    raw = read_raw(path)
    for item in overrides:
        _override(raw, item)
    return _checked(model, raw, path)


def read_raw(path: Path) -> dict[str, Any]:
    """The mapping that a recipe file holds.

    Raises:
        EosinError: it is not there, cannot be read, or holds something else.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise EosinError(
            "There is no such recipe.",
            where=path,
            next_step="eosin run --list   shows the recipes that come with Eosin",
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise EosinError("The recipe cannot be read.", found=str(exc), where=path) from None
    raw = parse_yaml(text, path)
    if not isinstance(raw, dict):
        raise EosinError("A recipe is a mapping of settings.", found=type(raw).__name__, where=path)
    return raw


def _checked(model: type[Settings], raw: dict[str, Any], path: Path) -> Settings:
    raw.setdefault("name", file_name(path.stem))
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise RecipeError(_problems(exc, model), path) from None


_SECRET = (("api_key_env",), ("url",), ("proxy",))

# Settings that may be written as one word, and the field that the word fills.
SHORT_FORMS = {"algorithm": "name", "difficulty": "file", "launch": "preset"}


def check_settings(model: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Settings from plain values; all problems at once as a RecipeError."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as exc:
        raise RecipeError([f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()], where) from None


def _override(raw: dict[str, Any], item: str) -> str:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise EosinError("An override is written key=value.", expected="for example data.root=tiles", found=item)
    place: Any = raw
    *path, last = key.split(".")
    for name in path:
        if place.get(name) is None:
            place[name] = {}
        elif name in SHORT_FORMS and isinstance(place[name], str):
            place[name] = {SHORT_FORMS[name]: place[name]}
        place = place[name]
        if not isinstance(place, dict):
            raise EosinError(f"{name} is not a group of settings.", found=item, expected="for example data.root=tiles")
    try:
        place[last] = parse_yaml(value, key) if value else ""
    except EosinError:
        place[last] = value
    return key


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for k, v in value.items() for leaf in _leaves(v, f"{prefix}.{k}" if prefix else str(k))]
    return [(prefix, value)]


def _provenance(recipe: Recipe, from_file: Mapping[str, Any], changed: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name, value in _leaves(recipe.model_dump(mode="json")):
        stage_key = name.split(".")[2] if name.startswith("stages.") and name.count(".") >= 2 else None
        if name not in from_file and name not in changed and _is_of_paper(recipe, name, value):
            origin = "paper"
        elif any(name == c or name.startswith(c + ".") for c in changed):
            origin = "command line"
        elif name in from_file or any(name.startswith(f + ".") for f in from_file):
            origin = "recipe"
        elif stage_key in recipe.train:
            origin = "train block"
        elif _is_of_scoring(name, value, from_file, changed):
            origin = "scoring block"
        else:
            origin = "default"
        rows.append({"field": name, "value": value, "from": origin})
    return rows


def _is_of_scoring(name: str, value: Any, from_file: Mapping[str, Any], changed: Sequence[str]) -> bool:
    """Whether a field of a stage or an exam is the run's, from its scoring block."""
    owner, _, key, *rest = [*name.split("."), "", "", ""]
    if owner not in ("stages", "exams") or key != "scoring" or value is None:
        return False
    field = ".".join(["scoring", *(p for p in rest if p)])
    return field in from_file or any(field == c or field.startswith(c + ".") for c in changed)


def _is_of_paper(recipe: Recipe, name: str, value: Any) -> bool:
    """Whether a field is one that an RL algorithm's name stands for, at the paper's value."""
    _, stage, key, field, *_ = [*name.split("."), "", "", ""]
    settings = recipe.stages.get(stage)
    if not isinstance(settings, RlStage) or key != "algorithm":
        return False
    paper = settings.algorithm.PAPER.get(settings.algorithm.name, {})
    return field in paper and paper[field] == value


def _problems(exc: ValidationError, root: type[BaseModel] = Recipe) -> list[str]:
    problems = []
    for error in exc.errors():
        loc = tuple(error["loc"])
        where = ".".join(str(x) for x in _without_tags(loc, root)) or "recipe"
        if error["type"] == "extra_forbidden":
            known = sorted({f for c in _classes_at(loc[:-1], root) for f in c.model_fields})
            problems.append(f"{where}: there is no such setting{_nearest(str(loc[-1]), known)}")
        elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
            ctx = error.get("ctx", {})
            problems.append(f"{where}: expected one of {ctx.get('expected_tags')}, found {ctx.get('tag')!r}")
        else:
            message = error["msg"].removeprefix("Value error, ")
            value = error.get("input")
            hidden = isinstance(value, (Mapping, BaseModel)) or loc[-1:] in _SECRET  # who pastes a key must not see it
            found = "" if hidden else f" (found {value!r})"
            problems.append(f"{where}: {message}{found}")
    return problems


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are: {', '.join(known)}"


def _without_tags(loc: tuple[int | str, ...], root: type[BaseModel]) -> list[int | str]:
    kept: list[int | str] = []
    for i, item in enumerate(loc):
        classes = _classes_at(loc[:i], root)
        is_tag = len(classes) > 1 and any(item in _tags(c) for c in classes)
        is_form = item in REWARD_FORMS and ("rewards" in loc[:i] or (loc[0] == "exams" and "terms" in loc[:i]))
        if not is_tag and not is_form:
            kept.append(item)
    return kept


def _tags(cls: type[BaseModel]) -> set[Any]:
    return {f.default for n, f in cls.model_fields.items() if n in ("kind", "source", "step")}


def _classes_at(loc: tuple[int | str, ...], root: type[BaseModel]) -> set[type[BaseModel]]:
    """Model classes that may stand at a place of the recipe; discriminator tags in `loc` narrow them."""
    classes: set[type[BaseModel]] = {root}
    for item in loc:
        holders = [c for c in classes if item in c.model_fields]
        if holders:
            classes = {m for c in holders for m in _models_in(c.model_fields[str(item)].annotation)}
        elif any(item in _tags(c) for c in classes) and len(classes) > 1:
            classes = {c for c in classes if item in _tags(c)}
    return classes


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _models_in(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType, dict, list, tuple):
        return [m for a in typing.get_args(annotation) for m in _models_in(a)]
    return []
