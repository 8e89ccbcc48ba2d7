"""The group that every `ctedge …` of several commands is."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Group(TyperGroup):
    """A group of commands whose help costs no more than typer itself."""

    def get_help_option(self, ctx: Any) -> Any:
        # Left at None, typer imports pydantic to see that --help was not given to the group, which
        # takes as long as typer; and that for the help of one of its commands.
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option
