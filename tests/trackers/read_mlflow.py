"""What MLflow's own client reads in a file store, as JSON: `read_mlflow.py FOLDER`."""

import json
import os
import sys

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

from mlflow import MlflowClient  # noqa: E402

root = os.path.abspath(sys.argv[1])
client = MlflowClient("file://" + root)
experiments = {}
for experiment in client.search_experiments():
    runs = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        info, data = run.info, run.data
        history = {}
        for name in data.metrics:
            points = client.get_metric_history(info.run_id, name)
            history[name] = [[p.step, repr(p.value), p.timestamp] for p in points]

        def files(below=None):
            for entry in client.list_artifacts(info.run_id, below):
                yield from files(entry.path) if entry.is_dir else [entry.path]

        runs[info.run_name] = {
            "id": info.run_id,
            "status": info.status,
            "start": info.start_time,
            "end": info.end_time,
            "params": data.params,
            "tags": data.tags,
            "metrics": history,
            "artifacts": sorted(files()),
        }
    experiments[experiment.name] = runs
print(json.dumps(experiments))
