// Which copy of a family's kernels runs: each family is compiled once per instruction set.
#pragma once

// A family's header declares its table struct and `const Table& family();`. This macro, used in the
// family's bind file,
// defines that function over the copies in namespaces baseline, avx2 and avx512.
#ifdef FASTRL_X86
#define FASTRL_DISPATCH(Table, family)   \
  namespace baseline {                   \
  extern const Table family##_table;     \
  }                                      \
  namespace avx2 {                       \
  extern const Table family##_table;     \
  }                                      \
  namespace avx512 {                     \
  extern const Table family##_table;     \
  }                                      \
  const Table& family() {                \
    switch (isa()) {                     \
      case Isa::avx512:                  \
        return avx512::family##_table;   \
      case Isa::avx2:                    \
        return avx2::family##_table;     \
      default:                           \
        return baseline::family##_table; \
    }                                    \
  }
#else
#define FASTRL_DISPATCH(Table, family) \
  namespace baseline {                 \
  extern const Table family##_table;   \
  }                                    \
  const Table& family() { return baseline::family##_table; }
#endif

namespace fastrl {

enum class Isa { baseline, avx2, avx512 };

Isa isa();                      // the one in use: the best this processor has, or FASTRL_ISA
bool isa_supported(Isa which);  // can this processor run it
void set_isa(Isa which);        // for tests
const char* isa_name(Isa which);
bool isa_from_name(const char* name, Isa* which);

[[noreturn]] void out_of_memory();  // for kernels, which are compiled apart from the standard library

}  // namespace fastrl
