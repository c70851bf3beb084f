// A C++ unit linked to the implementation compiled as C.
#include "ruvector.h"

#include <string>
#include <vector>

#include "smoke.h"

int main()
{
    std::vector<float> a(17, 1.0f), b(17, 2.0f);
    if (rv_l2sq_f32(a.data(), b.data(), a.size()) != 17.0f) return 2;
    if (std::string(rv_version()).empty()) return 3;
    return smoke(nullptr);
}
