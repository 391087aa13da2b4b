#include "replay_sequences.h"

#include <cstring>
#include <limits>
#include <string>

#include "new_array.h"

namespace fastrl {
namespace {

constexpr int64_t kMostSteps = std::numeric_limits<int32_t>::max();  // of a batch

}  // namespace

void keep_sequences(const ReplayParts& parts, int64_t length, int64_t stride, int ends) {
  const int64_t steps = parts.replay.capacity() / parts.replay.streams();
  if (!parts.replay.prioritized() || parts.replay.added() != 0)
    throw py::value_error("replay: sequences need an empty buffer with priorities");
  if (length < 1 || stride < 1 || length > steps || stride > steps - length)
    throw py::value_error("replay: length and stride must be >= 1 and together at most the " +
                          std::to_string(steps) + " steps of an environment, got " + std::to_string(length) +
                          " and " + std::to_string(stride));
  for (const NamedField& field : parts.fields.field)
    for (const char* own : {"mask", "is_first"})
      if (std::string(field.name) == own)
        throw py::value_error("replay: a field's name must be none of mask, is_first, got " +
                              std::string(own));
  if (ends < 0 || ends > static_cast<int>(SequenceStarts::Ends::padded))
    throw py::value_error("replay: no such ends");
  parts.replay.keep_sequences(
      {steps, parts.replay.streams(), length, stride, static_cast<SequenceStarts::Ends>(ends)});
}

ReplayRows sample_sequences(const ReplayParts& parts, py::handle batch_size, py::handle out,
                            py::handle exponent_of_weights, bool stratified, int scale) {
  const SequenceStarts* starts = parts.replay.sequences();
  if (starts == nullptr) throw py::value_error("sample: this buffer keeps no sequences");
  const int64_t length = starts->options().length;
  const int64_t n = integer("sample", "batch_size", batch_size, 0, kMostSteps / length + 1);
  const double beta = exponent("sample", exponent_of_weights);
  if (scale < 0 || scale > static_cast<int>(WeightScale::uniform))
    throw py::value_error("sample: no such scale");

  Batch batch(parts.fields, "sample", n, out, true, false, length);
  std::vector<int64_t> row(static_cast<size_t>(length * n));
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    Drawing lock(parts.lock);
    const PriorityDraw how{stratified, static_cast<WeightScale>(scale), beta};
    drawn = n == 0 || (parts.replay.stored() > 0 && parts.replay.draw(n, how, batch.index, batch.weight));
    lock.finish_drawing();
    if (drawn) {
      starts->expand(batch.index, n, parts.replay.flags(), row.data(), batch.mask, batch.is_first);
      parts.replay.gather_steps(row.data(), length * n, batch.field.data());
    }
  }
  if (!drawn)
    throw py::value_error("sample: the buffer must hold a sequence of " + std::to_string(length) +
                          " steps and of a priority > 0, it holds none");
  for (size_t f = 0; f < batch.field.size(); ++f) {
    const int64_t bytes = parts.fields.field[f].bytes;
    for (int64_t i = 0; i < length * n; ++i)
      if (!batch.mask[i]) std::memset(batch.field[f] + i * bytes, 0, static_cast<size_t>(bytes));
  }
  return ReplayRows(batch.finished());
}

}  // namespace fastrl
