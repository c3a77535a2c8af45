// JSQ_API marks what libjsq exports; everything else in the shared library is hidden.
#pragma once

#if defined(JSQ_BUILDING_LIBRARY)
#define JSQ_API __attribute__((visibility("default")))
#else
#define JSQ_API
#endif
