"""What a training changes: every parameter of a network is in exactly one group, and every group is trained or frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pipeline.errors import UserError, nearest
from training.models.parameter_groups import groups


@dataclass(frozen=True, slots=True)
class PlannedParameter:
    name: str                 # in the module that the engine wraps
    group: str
    is_trained: bool
    num_elements: int         # of the whole tensor; ZeRO-3 later leaves an empty one in its place
    parameter: nn.Parameter


@dataclass(frozen=True, slots=True)
class ParamPlan:
    """The parameters of one engine's module, in the module's order."""

    parameters: tuple[PlannedParameter, ...]

    @classmethod
    def by_group(cls, model: str, module: nn.Module, train: Sequence[str], *, prefix: str = "") -> ParamPlan:
        """Trains the groups named in `train` and freezes all others; names get `prefix` where the engine wraps several models.

        UserError for a group the model does not have, and for a parameter that belongs to no group.
        """
        members = groups(model, module)
        for group in train:
            if group not in members:
                meant = nearest(group, members)
                raise UserError(f"task.train_groups names {group}, which is no parameter group of {model}",
                                f"its groups are {', '.join(members)}", f"Did you mean {meant}?" if meant else "")
        group_of = {name: group for group, names in members.items() for name in names}
        return cls(tuple(
            PlannedParameter(prefix + name, group_of[name], group_of[name] in train, parameter.numel(), parameter)
            for name, parameter in module.named_parameters()))

    def joined(self, other: ParamPlan) -> ParamPlan:
        """Both plans as one, for a module that holds both networks; their names must differ."""
        shared = {item.name for item in self.parameters} & {item.name for item in other.parameters}
        assert not shared, f"planned twice: {sorted(shared)[:3]}"
        return ParamPlan(self.parameters + other.parameters)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(item.name, item.parameter) for item in self.parameters if item.is_trained]

    def frozen(self) -> list[tuple[str, nn.Parameter]]:
        return [(item.name, item.parameter) for item in self.parameters if not item.is_trained]

    @property
    def num_trainable(self) -> int:
        return sum(item.num_elements for item in self.parameters if item.is_trained)

    def covers(self, module: nn.Module) -> bool:
        """True where the plan names every parameter of the module, and nothing else."""
        return {item.name for item in self.parameters} == {name for name, _ in module.named_parameters()}

    def freeze(self) -> None:
        """Sets requires_grad of every parameter. DeepSpeed looks at it when an engine is built, so call it before."""
        for item in self.parameters:
            item.parameter.requires_grad_(item.is_trained)

    def check(self, expected: int | None) -> None:
        """UserError where another number of parameters is trained than the recipe says; None: the recipe says nothing."""
        if expected is not None and self.num_trainable != expected:
            raise UserError(
                f"{self.num_trainable:,} parameters would be trained", f"task.expected_trainable={expected:,} of this recipe",
                "Compare task.train_groups with the table above, or set task.expected_trainable=null for a recipe of your own")

    def table(self, title: str) -> str:
        """Groups with their tensors and parameters, for people; ends in the number that is trained."""
        rows = [("group", "tensors", "parameters", "trained")]
        for group in dict.fromkeys(item.group for item in self.parameters):
            items = [item for item in self.parameters if item.group == group]
            num_trained = sum(item.is_trained for item in items)
            rows.append((group, f"{len(items):,}", f"{sum(item.num_elements for item in items):,}",
                         "no" if num_trained == 0 else "yes" if num_trained == len(items) else "partly"))
        rows.append(("trained", f"{len(self.trainable()):,}", f"{self.num_trainable:,}", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows]
        return "\n".join([title, *("  " + line for line in lines)])
