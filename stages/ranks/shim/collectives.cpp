// What opdflow asks of libtorch's collectives (c10d), as functions of C. Each gives 0, or 1 with the words in `ranks_error`.
#include "caught.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace {

struct Store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
};

std::chrono::milliseconds of(int64_t milliseconds) { return std::chrono::milliseconds(milliseconds); }

}  // namespace

extern "C" {

const char* ranks_error() { return words.c_str(); }

// The store by which the processes find each other; its server is on the side that says so. Port 0: any free one, told in `bound`.
int ranks_store(const char* host, uint16_t port, int server, int64_t timeout, Store** out, uint16_t* bound) {
  return caught([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = server != 0;
    options.waitWorkers = false;
    options.timeout = of(timeout);
    auto store = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    *bound = store->getPort();
    *out = new Store{store};
  });
}

// Gloo between the addresses of this host, `at` its name or that of a network interface.
int ranks_gloo(Store* store, int rank, int world, const char* at, int interface, int64_t timeout, Group** out) {
  return caught([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(of(timeout));
    options->devices.push_back(
        interface ? c10d::ProcessGroupGloo::createDeviceForInterface(at)
                  : c10d::ProcessGroupGloo::createDeviceForHostname(at));
    *out = new Group{c10::make_intrusive<c10d::ProcessGroupGloo>(store->store, rank, world, options)};
  });
}

// NCCL between GPUs.
int ranks_nccl(Store* store, int rank, int world, int64_t timeout, Group** out) {
#ifdef USE_C10D_NCCL
  return caught([&] {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = of(timeout);
    *out = new Group{c10::make_intrusive<c10d::ProcessGroupNCCL>(store->store, rank, world, options)};
  });
#else
  words = "this build has no NCCL";
  return 1;
#endif
}

// `own` of all processes, in their order, into `all`, each of its shape and kind.
int ranks_gather(Group* group, at::Tensor* own, at::Tensor** all, size_t count) {
  return caught([&] {
    std::vector<std::vector<at::Tensor>> into(1);
    for (size_t i = 0; i < count; i++) into[0].push_back(*all[i]);
    std::vector<at::Tensor> from{*own};
    group->backend->allgather(into, from)->wait();
  });
}

// What process `root` has in `tensor`, into that of all others.
int ranks_broadcast(Group* group, at::Tensor* tensor, int root) {
  return caught([&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.rootTensor = 0;
    std::vector<at::Tensor> tensors{*tensor};
    group->backend->broadcast(tensors, options)->wait();
  });
}

void ranks_free_group(Group* group) { delete group; }
void ranks_free_store(Store* store) { delete store; }
}
