// What the emulation needs of the system and of the standard library. Compiled once, before all
// kernels: it takes the compiler as long as most of these.
#ifndef STANDARD_H
#define STANDARD_H

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#endif
