"""What TensorBoard itself reads below a folder, as JSON: `read_tensorboard.py FOLDER`.

By its two readers: the event accumulator, which many scripts use, and the data server, which its pages ask.
"""

import io
import json
import os
import sys
import tempfile

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.data import server_ingester
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.util import tensor_util
from tensorboard.util.grpc_util import ChannelCredsType
from google.protobuf import json_format

root = sys.argv[1]
runs = {}
for folder, _, files in os.walk(root):
    if not any("tfevents" in f for f in files):
        continue
    events = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    run = {"scalars": {}, "images": {}, "files": sorted(files)}
    for tag in tags["scalars"]:
        run["scalars"][tag] = [[e.step, repr(e.value), e.wall_time] for e in events.Scalars(tag)]
    images = events.PluginTagToContent("images") if any(t.startswith("images/") for t in tags["tensors"]) else []
    for tag in images:
        for image in events.Tensors(tag):
            width, height, png = tensor_util.make_ndarray(image.tensor_proto)
            pixels = Image.open(io.BytesIO(png)).convert("RGB")
            about = events.SummaryMetadata(tag).summary_description
            run["images"][tag] = {"size": [int(width), int(height)], "pixels": list(pixels.getdata()), "about": about}
    runs[os.path.relpath(folder, root)] = run


def served():
    """Scalars as the data server has them, and the table of the hparams plugin on top of it."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TMPDIR"] = scratch
        # All points of each tag, as `--samples_per_plugin scalars=0`.
        ingester = server_ingester.SubprocessServerDataIngester(
            server_binary=server_ingester.get_server_binary(),
            logdir=root,
            reload_interval=1000,
            channel_creds_type=ChannelCredsType.LOCAL,
            samples_per_plugin={"scalars": 0, "images": 0},
        )
        ingester.start()
        provider = ingester.data_provider
        ctx = RequestContext()
        scalars = provider.read_scalars(ctx, experiment_id="", plugin_name="scalars", downsample=100000)
        counts = {run: {tag: len(points) for tag, points in tags.items()} for run, tags in scalars.items()}
        images = provider.list_blob_sequences(ctx, experiment_id="", plugin_name="images")
        about = {run: {tag: series.description for tag, series in tags.items()} for run, tags in images.items()}
        backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
        request = api_pb2.ListSessionGroupsRequest(
            start_index=0, slice_size=1000, allowed_statuses=[0, 1, 2, 3], aggregation_type=api_pb2.AGGREGATION_AVG
        )
        groups = list_session_groups.Handler(ctx, backend, "", request).run()
        return {"points": counts, "images": about, "hparams": json_format.MessageToDict(groups)}


print(json.dumps({"runs": runs, "served": served()}))
