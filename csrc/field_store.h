// How a replay buffer keeps a field other than in a column of its own.
#pragma once

#include <cstdint>

namespace fastrl {

// Keeps one field, or two: one of the moment before a step (current) and the same quantity after it
// (following), which neighbouring rows share. Rows come in the order of time, environments side by side.
class FieldStore {
 public:
  virtual ~FieldStore() = default;
  // Takes the values of n rows, whole steps, without gaps; following is null for a store of one field. Throws
  // std::bad_alloc, all is then as before. Then commit() puts them in their places, [first, first + n) of the
  // ring those from the row `source` on, all in order; or drop() forgets them.
  virtual void prepare(int64_t n, const char* current, const char* following) = 0;
  virtual void commit(int64_t first, int64_t n, int64_t source) = 0;
  virtual void drop() = 0;
  // The values of the n rows `rows` to `current`, and those that follow the rows `last` to `following`,
  // without gaps; either may be null.
  virtual void gather(const int64_t* rows, const int64_t* last, int64_t n, char* current,
                      char* following) const = 0;
  virtual void clear() = 0;
  virtual int64_t nbytes() const = 0;
};

}  // namespace fastrl
