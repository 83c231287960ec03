// What a bridge to libtorch does with exceptions: it gives 1, and keeps the words for this thread. The profiler's bridge has it too.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace {

thread_local std::string words;

// No exception may pass into Rust.
template <class Work>
int caught(Work work) {
  try {
    work();
    return 0;
  } catch (const c10::Error& error) {
    words = error.what_without_backtrace();
  } catch (const std::exception& error) {
    words = error.what();
  } catch (...) {
    words = "an exception without words";
  }
  return 1;
}

}  // namespace
