"""What scripts written for Azure ML find in a processor: stand-ins for its packages, where the real ones are missing.

`finder` answers for the names, `names` says which there are; `model`, `run` and `data_paths` do what can be done
without Azure, and `refusal` says in words what cannot. `azureml_user` is installed as a package of that name.
"""
