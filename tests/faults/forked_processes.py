"""Test processes that are forked from a server in which everything is imported."""

import multiprocessing

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(["tests.faults.preloaded"])
