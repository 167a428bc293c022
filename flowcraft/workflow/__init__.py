"""What to do, as data: workflow files, checked. Knows no model, no engine."""

from flowcraft.workflow.approvals import Gate, best_match, check_answer, find_gate, gates_of, parts_of
from flowcraft.workflow.check import check_workflow, environment_names, has_agents, mentions_run, plugin_tools
from flowcraft.workflow.expressions import Expression, ExpressionError
from flowcraft.workflow.facts import Facts
from flowcraft.workflow.inputs import bind_inputs, parse_inputs, parse_value, parse_written
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
