"""What to do, as data: workflow files, checked. Knows no model, no engine."""

from flowcraft.workflow.check import check_workflow, environment_names, mentions_run, plugin_tools
from flowcraft.workflow.expressions import Expression, ExpressionError
from flowcraft.workflow.facts import Facts
from flowcraft.workflow.inputs import bind_inputs, parse_inputs, parse_written
from flowcraft.workflow.json_schema import workflow_schema
from flowcraft.workflow.loader import load_workflow
from flowcraft.workflow.schema import Input, Prompt, Stage, Workflow
from flowcraft.workflow.signatures import Signature, describe_function
from flowcraft.workflow.start import check_start
from flowcraft.workflow.template import Template, render_value
from flowcraft.workflow.types import Type, TypeMismatch

__all__ = [
    "Expression",
    "ExpressionError",
    "Facts",
    "Input",
    "Prompt",
    "Signature",
    "Stage",
    "Template",
    "Type",
    "TypeMismatch",
    "Workflow",
    "bind_inputs",
    "check_start",
    "check_workflow",
    "describe_function",
    "environment_names",
    "load_workflow",
    "mentions_run",
    "parse_inputs",
    "parse_written",
    "plugin_tools",
    "render_value",
    "workflow_schema",
]
