"""What to do, as data: workflow files, checked. Knows no model, no engine."""

from flowcraft.workflow.checks.check import check_workflow, environment_names, has_agents, mentions_run, plugin_tools
from flowcraft.workflow.checks.facts import Facts
from flowcraft.workflow.checks.start import check_start
from flowcraft.workflow.editor.json_schema import workflow_schema
from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.template import Template, render_value
from flowcraft.workflow.inputs import bind_inputs, parse_inputs, parse_value, parse_written
from flowcraft.workflow.loading.approvals import Gate, best_match, check_answer, find_gate, gates_of, parts_of
from flowcraft.workflow.loading.loader import load_workflow
from flowcraft.workflow.schema import Input, Prompt, Stage, Workflow
from flowcraft.workflow.types.signatures import Signature, describe_function
from flowcraft.workflow.types.type import Type, TypeMismatch

__all__ = [
    "Expression",
    "ExpressionError",
    "Facts",
    "Gate",
    "Input",
    "Prompt",
    "Signature",
    "Stage",
    "Template",
    "Type",
    "TypeMismatch",
    "Workflow",
    "best_match",
    "bind_inputs",
    "check_answer",
    "check_start",
    "check_workflow",
    "describe_function",
    "environment_names",
    "find_gate",
    "gates_of",
    "has_agents",
    "load_workflow",
    "mentions_run",
    "parse_inputs",
    "parse_value",
    "parse_written",
    "parts_of",
    "plugin_tools",
    "render_value",
    "workflow_schema",
]
