"""Expressions and templates: their grammar, their values, what they mention."""
