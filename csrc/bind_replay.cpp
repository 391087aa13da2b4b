#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "frame_store.h"
#include "replay.h"
#include "replay_arguments.h"
#include "replay_batch.h"
#include "replay_rows.h"
#include "replay_sequences.h"
#include "replay_shards.h"
#include "replay_state.h"
#include "scratch.h"

namespace fastrl {
namespace {

constexpr int64_t kReleaseGil = 1 << 15;  // bytes copied: some microseconds of work
constexpr int64_t kRowWork = 64;          // bytes that finding and touching a row counts for
constexpr int64_t kMostRows = int64_t{1} << 31;

using Fields = ReplayRows;
using FieldArgument =
    py::typing::Tuple<py::str, py::dtype, py::typing::Tuple<py::int_, py::ellipsis>, py::str>;

// Fields kept as frames: the index of one, and of the one that follows it or -1; frames in a stack; is the
// stack the last axis.
using FramesArgument = std::tuple<int32_t, int32_t, int64_t, bool>;

class PyReplay {
 public:
  PyReplay(int64_t steps, int64_t streams, const std::vector<FieldArgument>& fields,
           const std::optional<std::string>& terminated, const std::optional<std::string>& truncated,
           int64_t window, double gamma, uint64_t seed,
           const std::optional<std::tuple<double, double, bool>>& priorities, bool flat,
           const std::vector<FramesArgument>& frames)
      : flat_(flat) {
    if (steps < 1 || streams < 1 || steps > kMostRows / streams || window < 1)
      throw py::value_error("replay: size must be in [num_envs, 2^31], and n >= 1");
    std::vector<ReplayField> places;
    for (const py::tuple& field : fields) {
      const auto name = field[0].cast<std::string>(), at = field[3].cast<std::string>();
      NamedField named = NamedFields::plain(name.c_str(), py::dtype::from_args(field[1]));
      named.shape = field[2].cast<std::vector<Py_intptr_t>>();
      for (const Py_intptr_t extent : named.shape) named.bytes *= extent;
      ReplayField place{};
      place.bytes = named.bytes;
      if (at == "sum") place.at = ReplayField::At::sum;
      if (at == "last") place.at = ReplayField::At::last;
      place.is_double = named.itemsize == 8;
      row_bytes_ += named.bytes + kRowWork;
      if (name == terminated) terminated_ = static_cast<int>(places.size());
      if (name == truncated) truncated_ = static_cast<int>(places.size());
      fields_.field.push_back(std::move(named));
      places.push_back(place);
    }
    ReplayPriorities chosen{};
    if (priorities) chosen = {std::get<0>(*priorities), std::get<1>(*priorities), std::get<2>(*priorities)};
    std::vector<std::unique_ptr<FieldStore>> stores;
    for (const auto& [current, following, stack, last] : frames) {
      const NamedField& named = fields_.field.at(static_cast<size_t>(current));
      if (stack < 1 || stack > FrameStore::kMostFrames || named.bytes % stack != 0)
        throw py::value_error("replay: a stack must have 1 to 128 frames");
      ReplayField& place = places.at(static_cast<size_t>(current));
      place.store = static_cast<int32_t>(stores.size());
      if (place.at == ReplayField::At::sum ||
          (following >= 0 && places.at(static_cast<size_t>(following)).at == ReplayField::At::sum))
        throw py::value_error("replay: a field that Nstep sums must not be kept as frames");
      if (following >= 0) {
        ReplayField& after = places.at(static_cast<size_t>(following));
        after.store = place.store;
        after.is_following = true;
        if (after.bytes != place.bytes)
          throw py::value_error("replay: a field and the one that follows it must be alike");
      }
      auto store = std::make_unique<FrameStore>(
          FrameStore::Layout{streams, steps, stack, named.bytes / stack, named.itemsize, last});
      frames_.push_back(store.get());
      stores.push_back(std::move(store));
    }
    replay_ = std::make_unique<Replay>(ReplayOptions{steps, streams, window, gamma, seed}, std::move(places),
                                       std::move(stores), priorities ? &chosen : nullptr);
    if (!replay_->valid_priority(1))
      throw py::value_error("replay: (1 + eps)^alpha, of a new row, must be at most 2^960, got alpha = " +
                            std::string(py::str(py::float_(chosen.alpha))) +
                            " and eps = " + std::string(py::str(py::float_(chosen.eps))));
  }

  int64_t add(const Fields& values, py::handle priorities) {
    std::vector<Values> values_of;
    const std::vector<const char*> data = fields_.read("add", values, flat_, values_of);
    const int64_t n = values_of[0].rows;
    if (n % replay_->streams() != 0)
      throw py::value_error("add: fields must have rows of all " + std::to_string(replay_->streams()) +
                            " environments, got " + std::to_string(n) + " rows");
    std::vector<uint8_t> flags(static_cast<size_t>(n));
    if (terminated_ >= 0) set_flags(data, terminated_, kTerminated, flags);
    if (truncated_ >= 0) set_flags(data, truncated_, kTruncated, flags);
    double largest = 0;
    std::optional<Scratch<double>> leaves;
    if (!priorities.is_none()) {
      leaves.emplace(n);
      read_priorities("add", priorities, n, leaves->data(), &largest);
    }
    int64_t first = 0;
    guarded<Writing>(n, [&] {
      first = replay_->add(n, data.data(), flags.data(), leaves ? leaves->data() : nullptr, largest);
    });
    return first;
  }

  Fields sample(py::handle batch_size, py::handle out, bool replacement) {
    const int64_t n = integer("sample", "batch_size", batch_size, 0, kMostRows);
    Batch batch(fields_, "sample", n, out, false, replay_->window() > 1);
    int64_t stored = 0;
    bool enough = false;
    guarded<Reading>(n, [&] {
      stored = replay_->stored();
      enough = n == 0 || (replacement ? stored > 0 : stored >= n);
      if (!enough) return;
      replay_->draw(n, replacement, batch.index);
      replay_->gather(batch.index, n, batch.field.data(), batch.discount);
    });
    if (!enough) refuse_batch(n, stored);
    return Fields(batch.finished());
  }

  Fields sample_prioritized(py::handle batch_size, py::handle out, py::handle exponent_of_weights,
                            bool stratified, int scale) {
    const int64_t n = integer("sample", "batch_size", batch_size, 0, kMostRows);
    const double beta = exponent("sample", exponent_of_weights);
    if (scale < 0 || scale > static_cast<int>(WeightScale::uniform))
      throw py::value_error("sample: no such scale");
    Batch batch(fields_, "sample", n, out, true, replay_->window() > 1);
    int64_t stored = 0;
    bool drawn = false;
    guarded<Drawing>(n, [&](Drawing& lock) {
      stored = replay_->stored();
      if (stored == 0 && n > 0) return;
      drawn = n == 0 || replay_->draw(n, {stratified, static_cast<WeightScale>(scale), beta}, batch.index,
                                      batch.weight);
      lock.finish_drawing();
      if (drawn) replay_->gather(batch.index, n, batch.field.data(), batch.discount);
    });
    if (!drawn && stored > 0) throw py::value_error("sample: a stored priority must be > 0, all are 0");
    if (!drawn) refuse_batch(n, stored);
    return Fields(batch.finished());
  }

  // Rows by their numbers; as they were added, or windows of n steps.
  Fields gather(py::handle indexes, bool windows) {
    const Rows rows("gather", indexes);
    const int64_t n = rows.count();
    Batch batch(fields_, "gather", n, py::none(), false, windows && replay_->window() > 1);
    int64_t stored = 0;
    bool valid = false;
    guarded<Reading>(n, [&] {
      stored = replay_->stored();
      valid = rows.within(stored);
      if (!valid) return;
      if (windows)
        replay_->gather(rows.data(), n, batch.field.data(), batch.discount);
      else
        replay_->gather_steps(rows.data(), n, batch.field.data());
    });
    if (!valid) rows.refuse("gather", stored);
    std::copy(rows.data(), rows.data() + n, batch.index);
    return Fields(batch.finished());
  }

  // since: None, or rows are passed over that were written when so many had been added, or later
  void update_priorities(py::handle indexes, py::handle priorities, py::handle since) {
    const int64_t before = since.is_none()
                               ? Replay::kAnyTime
                               : integer("update_priorities", "since", since, 0, Replay::kAnyTime);
    const Rows rows("update_priorities", indexes);
    const int64_t n = rows.count();
    Scratch<double> leaves(n);
    double largest = 0;
    std::vector<double> given;  // asked for where some may be passed over
    const bool all = replay_->sequences() == nullptr && before == Replay::kAnyTime;
    read_priorities("update_priorities", priorities, n, leaves.data(), &largest, all ? nullptr : &given);
    int64_t stored = 0;
    bool valid = false;
    guarded<Updating>(n, [&] {
      stored = replay_->stored();
      valid = rows.within(stored);
      if (valid) replay_->set_leaves(rows.data(), leaves.data(), n, largest, given.data(), before);
    });
    if (!valid) rows.refuse("update_priorities", stored);
  }

  // env None: of each
  void end_episode(py::handle env) {
    const int64_t streams = replay_->streams(), all = env.is_none() ? streams : 0;
    const int64_t first = env.is_none() ? 0 : integer("on_episode_end", "env", env, 0, streams);
    guarded<Writing>(0, [&] {
      for (int64_t stream = first; stream < std::max(first + 1, all); ++stream) replay_->end_episode(stream);
    });
  }

  void clear() {
    guarded<Writing>(replay_->capacity(), [&] { replay_->clear(); });
  }

  ReplayParts parts() { return {*replay_, lock_, fields_, frames_}; }
  int64_t stored() { return looked_at(&Replay::stored); }
  int64_t next_row() { return looked_at(&Replay::next_row); }
  int64_t added() { return looked_at(&Replay::added); }
  double max_priority() { return looked_at<Drawing>(&Replay::max_priority); }
  int64_t capacity() const { return replay_->capacity(); }
  int64_t bytes() { return looked_at(&Replay::bytes); }

 private:
  template <class Lock, class Work>
  void guarded(int64_t rows, Work work) {
    const auto inside = [&](Lock& lock) {
      if constexpr (std::is_invocable_v<Work, Lock&>)
        work(lock);
      else
        work();
    };
    if (rows * row_bytes_ < kReleaseGil) {
      Lock lock(lock_, std::try_to_lock);
      if (lock.owns_lock()) return inside(lock);
    }
    py::gil_scoped_release release;
    Lock lock(lock_);
    inside(lock);
  }

  template <class Lock = Reading, class Value>
  Value looked_at(Value (Replay::*look)() const) {
    Value result{};
    guarded<Lock>(0, [&] { result = ((*replay_).*look)(); });
    return result;
  }

  void set_flags(const std::vector<const char*>& data, int which, uint8_t flag,
                 std::vector<uint8_t>& flags) const {
    const NamedField& field = fields_.field[static_cast<size_t>(which)];
    const auto bytes = static_cast<size_t>(field.itemsize);
    const char* x = data[static_cast<size_t>(which)];
    for (size_t i = 0; i < flags.size(); ++i, x += bytes) {
      int any = 0;
      for (size_t b = 0; b + 1 < bytes; ++b) any |= x[b];
      any |= x[bytes - 1] & (field.kind == 'f' ? 0x7f : 0xff);  // -0.0 is 0
      if (any != 0) flags[i] |= flag;
    }
  }

  void read_priorities(const char* op, py::handle x, int64_t n, double* leaf, double* largest,
                       std::vector<double>* given = nullptr) const {
    if (!replay_->prioritized()) throw py::value_error(std::string(op) + ": this buffer has no priorities");
    const bool single = is_plain(x, py::dtype::of<float>(), true);
    py::object array = single || is_plain(x, py::dtype::of<double>(), true)
                           ? py::reinterpret_borrow<py::object>(x)
                           : converter("priorities")(op, x, n);
    const auto* proxy = py::detail::array_proxy(array.ptr());
    if (proxy->nd != 1 || proxy->dimensions[0] != n)
      throw py::value_error(std::string(op) + ": priorities must be float [" + std::to_string(n) + "], got " +
                            described(x));
    const bool valid =
        single ? replay_->to_leaves(reinterpret_cast<const float*>(proxy->data), n, leaf, largest)
               : replay_->to_leaves(reinterpret_cast<const double*>(proxy->data), n, leaf, largest);
    if (!valid) converter("refuse_priorities")(op, array);
    if (!valid) throw py::value_error(std::string(op) + ": priorities are too large");
    if (given == nullptr) return;
    if (single)
      given->assign(reinterpret_cast<const float*>(proxy->data),
                    reinterpret_cast<const float*>(proxy->data) + n);
    else
      given->assign(reinterpret_cast<const double*>(proxy->data),
                    reinterpret_cast<const double*>(proxy->data) + n);
  }

  [[noreturn]] static void refuse_batch(int64_t n, int64_t stored) {
    if (stored == 0) throw py::value_error("sample: the buffer must hold rows, it is empty");
    throw py::value_error("sample: batch_size without replacement must be <= the " + std::to_string(stored) +
                          " rows stored, got " + std::to_string(n));
  }

  bool flat_;
  NamedFields fields_;
  int terminated_ = -1, truncated_ = -1;
  int64_t row_bytes_ = 0;
  ReplayLock lock_;
  std::unique_ptr<Replay> replay_;
  std::vector<FrameStore*> frames_;  // its stores
};

}  // namespace

void register_replay(py::module_& m) {
  py::class_<PyReplay>(m, "Replay", "A ring of transitions; see csrc/replay.h and fastrl.replay.")
      .def(py::init<int64_t, int64_t, const std::vector<FieldArgument>&, const std::optional<std::string>&,
                    const std::optional<std::string>&, int64_t, double, uint64_t,
                    const std::optional<std::tuple<double, double, bool>>&, bool,
                    const std::vector<FramesArgument>&>(),
           py::arg("steps"), py::arg("streams"), py::arg("fields"), py::arg("terminated"),
           py::arg("truncated"), py::arg("window"), py::arg("gamma"), py::arg("seed"), py::arg("priorities"),
           py::arg("flat"), py::arg("frames"))
      .def("add", &PyReplay::add)
      .def("sample", &PyReplay::sample)
      .def("sample_prioritized", &PyReplay::sample_prioritized)
      .def("gather", &PyReplay::gather)
      .def("update_priorities", &PyReplay::update_priorities)
      .def("end_episode", &PyReplay::end_episode)
      .def("clear", &PyReplay::clear)
      .def("state", [](PyReplay& self) { return replay_state(self.parts()); })
      .def("restore",
           [](PyReplay& self, const ReplayPlace& place, py::handle flags, py::handle leaves,
              const Fields& fields) { restore_replay(self.parts(), place, flags, leaves, fields); })
      .def("keep_sequences", [](PyReplay& self, int64_t length, int64_t stride,
                                int ends) { keep_sequences(self.parts(), length, stride, ends); })
      .def("sample_sequences",
           [](PyReplay& self, py::handle batch_size, py::handle out, py::handle beta, bool stratified,
              int scale) { return sample_sequences(self.parts(), batch_size, out, beta, stratified, scale); })
      .def("outline", [](PyReplay& self) { return replay_outline(self.parts()); })
      .def("rows", [](PyReplay& self, int64_t added, int64_t first,
                      int64_t last) { return replay_rows(self.parts(), added, first, last); })
      .def("frames", [](PyReplay& self, int64_t added, size_t field, int64_t env, int64_t first,
                        int64_t last) { return replay_frames(self.parts(), added, field, env, first, last); })
      .def("check_load",
           [](PyReplay& self, const ReplayOutline& outline) { check_outline(self.parts(), outline); })
      .def("begin_load", [](PyReplay& self) { begin_replay(self.parts()); })
      .def("load_rows", [](PyReplay& self, int64_t first,
                           const ReplayRows& rows) { put_replay_rows(self.parts(), first, rows); })
      .def("load_frames",
           [](PyReplay& self, size_t field, int64_t env, int64_t first, py::handle frames) {
             put_replay_frames(self.parts(), field, env, first, frames);
           })
      .def("end_load",
           [](PyReplay& self, const ReplayOutline& outline) { end_replay(self.parts(), outline); })
      .def_property_readonly("stored", &PyReplay::stored)
      .def_property_readonly("next_row", &PyReplay::next_row)
      .def_property_readonly("added", &PyReplay::added)
      .def_property_readonly("max_priority", &PyReplay::max_priority)
      .def_property_readonly("capacity", &PyReplay::capacity)
      .def_property_readonly("bytes", &PyReplay::bytes);
}

}  // namespace fastrl
