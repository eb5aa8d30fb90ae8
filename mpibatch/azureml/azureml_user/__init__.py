"""Stands where Azure ML's package of this name stands: `from azureml_user.parallel_run import EntryScript`.

It is installed with mpibatch, so that entry scripts can be imported and tested outside of a run.
"""
