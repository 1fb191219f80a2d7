/* The one function of Windows' bcryptprimitives.dll that Rust's standard library calls; Wine has the DLL since version 9. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
    const SIZE_T part_max = 1 << 30;
    while (length > 0) {
        ULONG part = (ULONG)(length < part_max ? length : part_max);
        if (!RtlGenRandom(data, part)) return FALSE;
        data += part;
        length -= part;
    }
    return TRUE;
}
