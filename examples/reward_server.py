"""A reward in Python, for a stage `uses: served_reward`: how red an image is. Only Python itself is needed.

    python3 reward_server.py 8001
    export OPDFLOW_REWARD_REDNESS_URL=http://127.0.0.1:8001

docs/how-to/served-reward.md has the recipe, docs/reference/reward_server.md the protocol.
"""
import base64
import hashlib
import http.server
import json
import sys


def redness(rgb, shape, subject):
    """The score of one image. `rgb` is its bytes, row by row; `subject["text"]` its prompt."""
    height, width, _ = shape
    red, green = (sum(rgb[channel::3]) / (255 * height * width) for channel in (0, 1))
    return {"value": red - green, "parts": {"green": green}}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer(*((200, self.health) if self.path == "/v1/health" else (404, {"error": "no such path"})))

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        images = (base64.b64decode(image) for image in asked["images"])
        scores = [self.score(*image) for image in zip(images, asked["shapes"], asked["subjects"])]
        self.answer(200, {"digest": self.health["digest"], "scores": scores})


def serve(port, health, score):
    """Serves a reward on this machine: `health` is what the server says of itself, `score` gives the score of one image."""
    reward = type("Reward", (Server,), {"health": {"form": "rgb", **health}, "score": staticmethod(score)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), reward)
    print(f"http://127.0.0.1:{server.server_port} {health['digest']}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    # All that the scores hang on: whoever edits this file has another reward.
    digest = hashlib.sha256(open(__file__, "rb").read()).hexdigest()
    health = {"name": "redness", "version": "1", "digest": digest, "measures": ["green"]}
    serve(int(sys.argv[1]), health, redness)
