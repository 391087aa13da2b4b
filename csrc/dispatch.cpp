#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifdef FASTRL_X86
#include <cpuid.h>
#endif

namespace fastrl {

namespace {

const char* const kNames[] = {"baseline", "avx2", "avx512"};

#ifdef FASTRL_X86
// The levels x86-64-v3 and -v4 by their parts: older GCCs and Clangs do not know them by name. The builtin
// also asks whether the operating system saves the wide registers; the parts that it cannot name in Clang
// come from cpuid.
bool has_v3() {
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2")))
    return false;
  unsigned a, b, c, d, extended_c;
  return __get_cpuid(1, &a, &b, &c, &d) && __get_cpuid(0x80000001, &a, &b, &extended_c, &d) &&
         (c & bit_MOVBE) && (c & bit_F16C) && (extended_c & bit_LZCNT);
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

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
  if (which == Isa::avx512) return has_v4();
  if (which == Isa::avx2) return has_v3();
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

void out_of_memory() { throw std::bad_alloc(); }

}  // namespace fastrl
