//! CPU seconds of each thread by its name. Empty where there is no /proc.

pub fn by_thread() -> Vec<(String, f64)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut all: Vec<(String, f64)> = Vec::new();
    for task in tasks.flatten() {
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let Ok(times) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos: f64 = times.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        match all.iter_mut().find(|(known, _)| *known == name.trim()) {
            Some((_, seconds)) => *seconds += nanos / 1e9,
            None => all.push((name.trim().to_owned(), nanos / 1e9)),
        }
    }
    all
}
