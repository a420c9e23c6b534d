"""Declares runs, cuts them into chunks, schedules these and follows the run to its end."""
