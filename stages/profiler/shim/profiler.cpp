// What opdflow asks of libtorch's profiler (Kineto), as functions of C. Each gives 0, or 1 with the words in `profiler_error`.
#include "caught.hpp"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

extern "C" {

const char* profiler_error() { return words.c_str(); }

// Records what this thread asks for, and what GPUs do, from now on.
int profiler_begin(int gpu) {
  return caught([&] {
    using namespace torch::profiler::impl;
    std::set<ActivityType> activities{ActivityType::CPU};
    if (gpu) activities.insert(ActivityType::CUDA);
    const ProfilerConfig config(ProfilerState::KINETO);
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  });
}

// Ends the recording and writes it to `path`, in the form of Chrome's traces; without a path it is dropped.
int profiler_end(const char* path) {
  return caught([&] {
    auto result = torch::autograd::profiler::disableProfiler();
    if (path) result->save(path);
  });
}
}
