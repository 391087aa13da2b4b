#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace fastrl {

namespace {

const char* const kNames[] = {"baseline", "avx2", "avx512"};

Isa detect() {
  const char* forced = std::getenv("FASTRL_ISA");
  if (forced != nullptr && *forced != '\0') {
    Isa which;
    if (!isa_from_name(forced, &which))
      throw std::invalid_argument(std::string("FASTRL_ISA must be baseline, avx2 or avx512, got ") + forced);
    if (!isa_supported(which))
      throw std::invalid_argument(std::string("FASTRL_ISA: this processor has no ") + forced);
    return which;
  }
  if (isa_supported(Isa::avx512)) return Isa::avx512;
  if (isa_supported(Isa::avx2)) return Isa::avx2;
  return Isa::baseline;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> value{detect()};
  return value;
}

}  // namespace

Isa isa() { return current().load(std::memory_order_relaxed); }

bool isa_supported(Isa which) {
#ifdef FASTRL_X86
  __builtin_cpu_init();
  if (which == Isa::avx512) return __builtin_cpu_supports("x86-64-v4");
  if (which == Isa::avx2) return __builtin_cpu_supports("x86-64-v3");
#endif
  return which == Isa::baseline;
}

void set_isa(Isa which) {
  if (!isa_supported(which))
    throw std::invalid_argument(std::string("set_isa: this processor has no ") + isa_name(which));
  current().store(which);
}

const char* isa_name(Isa which) { return kNames[static_cast<int>(which)]; }

bool isa_from_name(const char* name, Isa* which) {
  for (int i = 0; i < 3; ++i) {
    if (std::strcmp(name, kNames[i]) == 0) {
      *which = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

}  // namespace fastrl
