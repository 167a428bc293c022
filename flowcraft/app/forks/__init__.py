"""Runs that begin from what another one finished."""
