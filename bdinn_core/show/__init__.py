"""Showing what debanding does: pictures to look at, figures, and a report."""
