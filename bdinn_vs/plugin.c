/* core.bdinn: a native plugin that hands Deband's arguments to Python, and does nothing else.
 *
 * VapourSynth lets only native libraries add functions. Deband keeps its maps and calls
 * bdinn_vs.plugin.call(), which calls Run with a Python function; VapourSynth itself then turns the
 * arguments into Python's and what the function returns into the result. So nothing here holds a
 * Python object between calls, and there is no reference that could outlive a core.
 *
 * Python's functions are looked up in the running process: the library is tied to no Python version. */
#include <stdlib.h>
#include <string.h>
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
    "overlap:int:opt;batch:int:opt;num_streams:int:opt;";

typedef struct PyObject PyObject;

/* The Deband call that runs in this thread, if any. */
static _Thread_local const VSMap *arguments;
static _Thread_local VSMap *result;

static void *find(const char *name) {
#ifdef _WIN32
    HMODULE modules[4096];
    DWORD size;
    if (!EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &size))
        return NULL;
    if (size > sizeof modules)
        size = sizeof modules;
    for (DWORD i = 0; i < size / sizeof *modules; i++) {
        void *function = (void *)GetProcAddress(modules[i], name);
        if (function)
            return function;
    }
    return NULL;
#else
    return dlsym(RTLD_DEFAULT, name);
#endif
}

/* Calls bdinn_vs.plugin.call(); returns NULL, or why it failed, to be freed. */
static char *call_python(void) {
    static const char none[] = "needs a program that runs Python scripts, and there's no Python in this one";
    int (*is_running)(void) = find("Py_IsInitialized");
    if (!is_running || !is_running())
        return strdup(none);
    int (*lock)(void) = find("PyGILState_Ensure");
    void (*unlock)(int) = find("PyGILState_Release");
    PyObject *(*import)(const char *) = find("PyImport_ImportModule");
    PyObject *(*call)(PyObject *, const char *, const char *, ...) = find("PyObject_CallMethod");
    PyObject *(*take_exception)(void) = find("PyErr_GetRaisedException");
    PyObject *(*to_string)(PyObject *) = find("PyObject_Str");
    const char *(*to_utf8)(PyObject *) = find("PyUnicode_AsUTF8");
    void (*clear)(void) = find("PyErr_Clear");
    void (*release)(PyObject *) = find("Py_DecRef");
    if (!lock || !unlock || !import || !call || !take_exception || !to_string || !to_utf8 || !clear || !release)
        return strdup("needs Python 3.12 or newer");

    int state = lock();
    char *failure = NULL;
    PyObject *module = import("bdinn_vs.plugin");
    PyObject *done = module ? call(module, "call", NULL) : NULL;
    if (!done) {
        PyObject *exception = take_exception();
        PyObject *text = to_string(exception);
        const char *utf8 = text ? to_utf8(text) : NULL;
        failure = strdup(utf8 ? utf8 : "Python failed without a word");
        clear();
        release(text);
        release(exception);
    }
    release(done);
    release(module);
    unlock(state);
    return failure;
}

static void VS_CC deband(const VSMap *in, VSMap *out, void *data, VSCore *core, const VSAPI *vsapi) {
    (void)data, (void)core;
    arguments = in, result = out;
    char *failure = call_python();
    arguments = NULL, result = NULL;
    if (failure) {
        static const char prefix[] = "Deband: ";
        char *message = malloc(sizeof prefix + strlen(failure));
        vsapi->mapSetError(out, strcat(strcpy(message, prefix), failure));
        free(message);
        free(failure);
    }
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
        char *copy = strdup(error); /* mapSetError clears the map that holds it */
        vsapi->mapSetError(target, copy);
        free(copy);
    }
}

VS_EXTERNAL_API(void) VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->configPlugin("org.bdinn.bdinn", "bdinn", "Debanding by a small neural network",
                         VS_MAKE_VERSION(BDINN_MAJOR, BDINN_MINOR), VAPOURSYNTH_API_VERSION, 0, plugin);
    vspapi->registerFunction("Deband", SIGNATURE, "clip:vnode;", deband, NULL, plugin);
    vspapi->registerFunction("Run", "impl:func;", "", run, NULL, plugin);
}
