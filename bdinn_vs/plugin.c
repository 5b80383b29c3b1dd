/* core.bdinn: a native plugin that hands Deband's arguments to Python, and does nothing else.
 *
 * VapourSynth lets only native libraries add functions. Deband keeps its maps and calls
 * bdinn_vs.plugin.call(), which calls Run with a Python function; VapourSynth itself then turns the
 * arguments into Python's and what the function returns into the result. So nothing here holds a
 * Python object between calls, and there is no reference that could outlive a core.
 *
 * Python's functions are looked up in the running process: the library is tied to no Python version. */
#include <stdio.h>
#ifdef _WIN32
#define PSAPI_VERSION 2
#include <windows.h>
#include <psapi.h>
#else
#define _GNU_SOURCE
#include <dlfcn.h>
#endif
#include "VapourSynth4.h"

static const char SIGNATURE[] =
    "clip:vnode;strength:float[]:opt;step:data:opt;limit:float:opt;planes:int[]:opt:empty;"
    "mask:vnode:opt;grain:float[]:opt;dynamic_grain:int:opt;seed:int:opt;output_depth:int:opt;"
    "dither:data:opt;model:data:opt;device_id:int:opt;fp16:int:opt;tile_size:int:opt;"
    "overlap:int:opt;batch:int:opt;num_streams:int:opt;props:int:opt;";

typedef struct PyObject PyObject;

/* The Deband call that runs in this thread, if any. */
static _Thread_local const VSMap *arguments;
static _Thread_local VSMap *result;

#ifdef _WIN32
static HMODULE python(void) {
    HMODULE modules[4096];
    DWORD size;
    if (!EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &size))
        return NULL;
    if (size > sizeof modules)
        size = sizeof modules;
    for (DWORD i = 0; i < size / sizeof *modules; i++)
        if (GetProcAddress(modules[i], "PyUnicode_AsUTF8")) /* python3.dll, a part of Python's functions, lacks it */
            return modules[i];
    return NULL;
}
#define FIND(name) ((void *)(library ? GetProcAddress(library, name) : NULL))
#else
#define FIND(name) dlsym(RTLD_DEFAULT, name)
#endif

/* Calls bdinn_vs.plugin.call(); where that fails, says why in `out`. */
static void call_python(VSMap *out, const VSAPI *vsapi) {
#ifdef _WIN32
    HMODULE library = python();
#endif
    int (*is_running)(void) = FIND("Py_IsInitialized");
    int (*lock)(void) = FIND("PyGILState_Ensure");
    void (*unlock)(int) = FIND("PyGILState_Release");
    PyObject *(*import)(const char *) = FIND("PyImport_ImportModule");
    PyObject *(*call)(PyObject *, const char *, const char *, ...) = FIND("PyObject_CallMethod");
    PyObject *(*take_exception)(void) = FIND("PyErr_GetRaisedException");
    PyObject *(*to_string)(PyObject *) = FIND("PyObject_Str");
    const char *(*to_utf8)(PyObject *) = FIND("PyUnicode_AsUTF8");
    void (*clear)(void) = FIND("PyErr_Clear");
    void (*release)(PyObject *) = FIND("Py_DecRef");
    if (!is_running || !is_running()) {
        vsapi->mapSetError(out, "Deband: runs in Python, which isn't in this program: use a .vpy script");
        return;
    }
    if (!lock || !unlock || !import || !call || !take_exception || !to_string || !to_utf8 || !clear || !release) {
        vsapi->mapSetError(out, "Deband: needs Python 3.12 or newer");
        return;
    }
    int state = lock();
    PyObject *module = import("bdinn_vs.plugin");
    PyObject *done = module ? call(module, "call", NULL) : NULL;
    if (!done) {
        char message[4096];
        PyObject *exception = take_exception();
        PyObject *text = to_string(exception);
        const char *utf8 = text ? to_utf8(text) : NULL;
        snprintf(message, sizeof message, "Deband: %s", utf8 && *utf8 ? utf8 : "was interrupted");
        vsapi->mapSetError(out, message);
        clear();
        release(text);
        release(exception);
    }
    release(done);
    release(module);
    unlock(state);
}

static void VS_CC deband(const VSMap *in, VSMap *out, void *data, VSCore *core, const VSAPI *vsapi) {
    (void)data, (void)core;
    const VSMap *outer_arguments = arguments;
    VSMap *outer_result = result;
    arguments = in, result = out;
    call_python(out, vsapi);
    arguments = outer_arguments, result = outer_result;
}

/* impl returns `clip`, or why there's none as `error`: an exception would come with its traceback. */
static void VS_CC run(const VSMap *in, VSMap *out, void *data, VSCore *core, const VSAPI *vsapi) {
    (void)data, (void)core;
    VSMap *target = result;
    if (!target) {
        vsapi->mapSetError(out, "Run: is for Deband's own use; call Deband");
        return;
    }
    VSFunction *impl = vsapi->mapGetFunction(in, "impl", 0, NULL);
    vsapi->callFunction(impl, arguments, target);
    vsapi->freeFunction(impl);
    int missing;
    const char *error = vsapi->mapGetData(target, "error", 0, &missing);
    if (!missing) {
        char message[4096]; /* a copy: mapSetError clears the map that holds it */
        snprintf(message, sizeof message, "%s", error);
        vsapi->mapSetError(target, message);
    }
}

VS_EXTERNAL_API(void) VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->configPlugin("org.bdinn.bdinn", "bdinn", "Debanding by a small neural network",
                         VS_MAKE_VERSION(BDINN_MAJOR, BDINN_MINOR), VAPOURSYNTH_API_VERSION, 0, plugin);
    vspapi->registerFunction("Deband", SIGNATURE, "clip:vnode;", deband, NULL, plugin);
    vspapi->registerFunction("Run", "impl:func;", "", run, NULL, plugin);
}
