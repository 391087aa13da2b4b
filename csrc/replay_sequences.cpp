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

ReplayRows sample_sequences(const ReplayParts& parts, py::handle batch_size, py::handle exponent_of_weights,
                            bool stratified, int scale) {
  const SequenceStarts* starts = parts.replay.sequences();
  if (starts == nullptr) throw py::value_error("sample: this buffer keeps no sequences");
  const int64_t length = starts->options().length;
  const int64_t n = integer("sample", "batch_size", batch_size, 0, kMostSteps / length + 1);
  const double beta = exponent("sample", exponent_of_weights);
  if (scale < 0 || scale > static_cast<int>(WeightScale::uniform))
    throw py::value_error("sample: no such scale");

  ReplayRows batch;
  std::vector<char*> to;
  std::vector<py::object> held;  // whatever the batch's names are
  const auto place = [&](const NamedField& field, int64_t rows) {
    const py::object array = new_rows(field, rows);
    batch[field.name] = array;
    held.push_back(array);
    return static_cast<char*>(contents(array.ptr()));
  };
  for (const NamedField& field : parts.fields.field) to.push_back(place(field, length * n));
  const auto flags = py::dtype::of<bool>();
  auto* mask = reinterpret_cast<bool*>(place(NamedFields::plain("mask", flags), length * n));
  auto* is_first = reinterpret_cast<bool*>(place(NamedFields::plain("is_first", flags), length * n));
  auto* start = reinterpret_cast<int64_t*>(place(parts.fields.indexes, n));
  auto* weight = reinterpret_cast<float*>(place(parts.fields.weights, n));
  std::vector<int64_t> row(static_cast<size_t>(length * n));
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    Drawing lock(parts.lock);
    const PriorityDraw how{stratified, static_cast<WeightScale>(scale), beta};
    drawn = n == 0 || (parts.replay.stored() > 0 && parts.replay.draw(n, how, start, weight));
    lock.finish_drawing();
    if (drawn) {
      starts->expand(start, n, parts.replay.flags(), row.data(), mask, is_first);
      parts.replay.gather_steps(row.data(), length * n, to.data());
    }
  }
  if (!drawn)
    throw py::value_error("sample: the buffer must hold a sequence of " + std::to_string(length) +
                          " steps and of a priority > 0, it holds none");
  for (size_t f = 0; f < to.size(); ++f) {
    const int64_t bytes = parts.fields.field[f].bytes;
    for (int64_t i = 0; i < length * n; ++i)
      if (!mask[i]) std::memset(to[f] + i * bytes, 0, static_cast<size_t>(bytes));
  }
  return batch;
}

}  // namespace fastrl
