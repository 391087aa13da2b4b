// Waiting without sleep.
#pragma once

#include <chrono>

namespace fastrl {

// Until done(), but not for long: another thread or process may want the processor. Whether it was done.
template <class Done>
bool spin(std::chrono::microseconds most, const Done& done) {
  const auto end = std::chrono::steady_clock::now() + most;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
#ifdef __x86_64__
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace fastrl
