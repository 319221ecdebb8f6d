import SwiftUI

/// Ranks the text files of a folder for a query.
@main
struct RankFolderApp: App {
    @NSApplicationDelegateAdaptor(AppDelegate.self) private var delegate

    var body: some Scene {
        Window("RankFolder", id: "main") {
            ContentView(search: delegate.search)
        }
    }
}

@MainActor
final class AppDelegate: NSObject, NSApplicationDelegate {
    let search = Search()
    private var memoryPressure: (any DispatchSourceMemoryPressure)?

    func applicationDidFinishLaunching(_ notification: Notification) {
        // `swift run` starts the app without a bundle, so it must declare that it has windows.
        NSApp.setActivationPolicy(.regular)
        NSApp.activate()

        let source = DispatchSource.makeMemoryPressureSource(eventMask: [.warning, .critical], queue: .main)
        source.setEventHandler { [search] in
            Task { await search.trim() }
        }
        source.activate()
        memoryPressure = source
    }

    func applicationShouldTerminateAfterLastWindowClosed(_ sender: NSApplication) -> Bool { true }
}
