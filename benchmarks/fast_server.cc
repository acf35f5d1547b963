// A cheap server of the Microgrid service, for benchmarks: messages that are serialised already, no
// Python. Usage: fast_server RATE API BODY_FILE LIST_FILE
//
// Prints its port; serves until its standard input is closed. For each line on its standard input it
// prints the CPU time that it has taken, in seconds, how many samples it has sent, and how often it
// was asked for its components. API is v0.15 or v1alpha18. BODY_FILE has what every sample says
// besides time and ID (in v1alpha18, besides the ID and one more metric with the time); LIST_FILE is
// the answer to who asks for the components. RATE is samples a second of each stream; 0 sends as
// fast as they are read. All calls besides streams succeed with an empty answer.

#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

namespace {

using grpc::ByteBuffer;
using grpc::Slice;
using grpc::Status;

Slice body, components;
std::atomic<long> sent{0}, lists{0};
double rate = 0;
bool is_alpha = false;

void PutVarint(std::string* to, uint64_t value) {
  while (value >= 128) {
    to->push_back(static_cast<char>(value | 128));
    value >>= 7;
  }
  to->push_back(static_cast<char>(value));
}

// A field that is a message.
std::string Nested(char tag, const std::string& message) {
  std::string field(1, tag);
  PutVarint(&field, message.size());
  return field + message;
}

std::string Now() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  std::string stamp;
  stamp.push_back(0x08);
  PutVarint(&stamp, now.tv_sec);
  stamp.push_back(0x10);
  PutVarint(&stamp, now.tv_nsec);
  return stamp;
}

// The time now and the component's ID, as the fields that they are. Fields of a message may be
// spread over several pieces, which a reader joins: in ComponentData, which begins with this one,
// and in the telemetry of v1alpha18, which ends with it (the newest sample has the time that counts).
Slice TimeAndId(uint64_t id) {
  std::string field;
  if (!is_alpha) {
    field = Nested(0x0a, Now());
    field.push_back(0x10);
    PutVarint(&field, id);
    return Slice(field);
  }
  // The metric 33, 0.0 VAr.
  const std::string value{0x1a, 0x02, 0x0a, 0x00};
  const std::string sample = Nested(0x0a, Now()) + std::string{0x10, 33} + value;
  field.push_back(0x08);
  PutVarint(&field, id);
  field += Nested(0x12, sample);
  return Slice(Nested(0x0a, field));
}

// The ID that a request carries: its first field, a varint.
uint64_t ParseId(const ByteBuffer& request) {
  std::vector<Slice> slices;
  request.Dump(&slices);
  std::string bytes;
  for (const Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  uint64_t id = 0;
  for (size_t i = 1, shift = 0; i < bytes.size(); ++i, shift += 7) {
    id |= static_cast<uint64_t>(bytes[i] & 127) << shift;
    if (!(bytes[i] & 128)) break;
  }
  return id;
}

class Stream;
std::mutex streams_lock;
std::unordered_set<Stream*> streams;

// One client's stream. Only one write is under way at a time.
class Stream : public grpc::ServerGenericBidiReactor {
 public:
  explicit Stream(bool is_stream) : is_stream_(is_stream) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (!is_stream_) {
      if (is_list) ++lists;
      Slice answer = is_list ? components : Slice();
      answer_ = ByteBuffer(&answer, 1);
      StartWriteAndFinish(&answer_, grpc::WriteOptions(), Status::OK);
      return;
    }
    id_ = ParseId(request_);
    {
      std::lock_guard<std::mutex> held(streams_lock);
      streams.insert(this);
    }
    Write();
  }

  // Send a sample, unless the one before is still under way.
  void Write() {
    if (busy_.exchange(true)) return;
    Slice parts[] = {TimeAndId(id_), body};
    if (is_alpha) std::swap(parts[0], parts[1]);
    answer_ = ByteBuffer(parts, 2);
    StartWrite(&answer_);
  }

  void OnWriteDone(bool ok) override {
    if (!is_stream_ || !ok) return;
    ++sent;
    busy_ = false;
    if (rate == 0) Write();
  }

  void OnCancel() override {
    Leave();
    if (is_stream_ && !finished_.exchange(true)) Finish(Status::CANCELLED);
  }

  void OnDone() override {
    Leave();
    delete this;
  }

  uint64_t id() const { return id_; }

  bool is_list = false;

 private:
  void Leave() {
    std::lock_guard<std::mutex> held(streams_lock);
    streams.erase(this);
  }

  const bool is_stream_;
  uint64_t id_ = 0;
  ByteBuffer request_, answer_;
  std::atomic<bool> busy_{false}, finished_{false};
};

class Service : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const std::string& method = context->method();
    const std::string name = method.substr(method.rfind('/') + 1);
    auto* stream = new Stream(name == "StreamComponentData" || name == "ReceiveElectricalComponentTelemetryStream");
    stream->is_list = name == "ListComponents" || name == "ListElectricalComponents";
    return stream;
  }
};

// Lets every stream send at the rate, the streams evenly spread over the interval.
void Tick() {
  using Clock = std::chrono::steady_clock;
  const int phases = 50;
  const auto pause = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1.0 / rate / phases));
  auto due = Clock::now();
  for (long round = 0;; ++round) {
    due += pause;
    std::this_thread::sleep_until(due);
    std::lock_guard<std::mutex> held(streams_lock);
    for (Stream* stream : streams)
      if (static_cast<long>(stream->id() % phases) == round % phases) stream->Write();
  }
}

Slice ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return Slice(std::string(std::istreambuf_iterator<char>(file), {}));
}

double CpuTime() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  rate = std::stod(argv[1]);
  is_alpha = std::string(argv[2]) != "v0.15";
  body = ReadFile(argv[3]);
  components = ReadFile(argv[4]);
  Service service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (rate > 0) std::thread(Tick).detach();
  std::cout << port << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) std::cout << CpuTime() << " " << sent << " " << lists << std::endl;
  _exit(0);
}
