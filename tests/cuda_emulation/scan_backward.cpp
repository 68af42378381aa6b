// The backward scan as a function of the CPU.
#include "scan_backward.cu"

namespace {
struct {
  Tensors given;
  Gradients grads;
  Map map;
  float* carried;
  int states, chunk, most_chunks;
} arguments;

void call() {
  scan_backward(arguments.given, arguments.grads, arguments.map, arguments.carried,
                arguments.states, arguments.chunk, arguments.most_chunks);
}
}  // namespace

extern "C" void run(int grid_x, int grid_y, int threads, int shared_bytes, Tensors* given,
                    Gradients* grads, Map* map, float** carried, int* states, int* chunk,
                    int* most_chunks) {
  arguments = {*given, *grads, *map, *carried, *states, *chunk, *most_chunks};
  emulation::launch({grid_x, grid_y}, threads, shared_bytes, call);
}
